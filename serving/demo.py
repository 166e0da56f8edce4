"""``make demo``: a build, a server, one image, and the server stopped again."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from serving.background import ServerFailed
from serving.building import PROJECT, REPOSITORY, build
from serving.server import TritonServer

SAMPLE = Path("examples/astronaut.png")
LOG = Path(".cache/demo-server.log")


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Build what is missing, serve it, and send the sample image through it."
    )
    parser.add_argument("image", nargs="?", type=Path, default=SAMPLE, help=f"image to send (default: {SAMPLE})")
    parser.add_argument(
        "--output-dir", type=Path, default=Path("outputs"), help="where the image goes (default: outputs)"
    )
    args = parser.parse_args()
    if code := build():
        return code
    print(f"\nStarting tritonserver (log: {LOG}) ...", flush=True)
    try:
        with TritonServer(PROJECT / REPOSITORY, PROJECT / LOG) as server:
            infer = [
                sys.executable,
                "client/infer.py",
                str(args.image),
                "--url",
                server.url,
                "--output-dir",
                str(args.output_dir),
            ]
            code = subprocess.run(infer, cwd=PROJECT).returncode
    except ServerFailed as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print("Server stopped. To try images of your own on a page: make web")
    return code


if __name__ == "__main__":
    raise SystemExit(main())
