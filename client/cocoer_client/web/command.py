"""``cocoer-web``: starts the gateway."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from cocoer_client.command import USAGE, add_server, check_server, connection_of
from cocoer_client.connection import default_url
from cocoer_client.errors import InvalidInput
from cocoer_client.optional import needs


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Serve the REST interface and the page, in front of a CocoER server.")
    parser.add_argument("--url", default=default_url(), metavar="HOST:PORT", help="gRPC address of Triton")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, default=8080, help="port to listen on (default: 8080)")
    add_server(parser.add_argument_group("server"), timeout=30, retries=0)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the console script."""
    parser = make_parser()
    args = parser.parse_args(argv)
    check_server(parser, args)
    try:
        needs("cocoer-web", "fastapi", "uvicorn", "python_multipart", "prometheus_client", extra="web")
    except InvalidInput as error:
        print(f"error: {error}", file=sys.stderr)
        return USAGE
    import uvicorn

    from cocoer_client.web.app import create_app
    from cocoer_client.web.settings import Settings

    settings = Settings(url=args.url, connection=connection_of(args))
    uvicorn.run(create_app(settings), host=args.host, port=args.port)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
