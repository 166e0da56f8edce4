"""Recognise emotions in images and videos with a running server: ``python client/infer.py --help``."""

from cocoer_client.infer.command import main

if __name__ == "__main__":
    raise SystemExit(main())
