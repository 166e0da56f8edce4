"""Serve the REST interface and the page, in front of a running server: ``python client/web.py --help``."""

from cocoer_client.web.command import main

if __name__ == "__main__":
    raise SystemExit(main())
