"""Recognise emotions in any number of images, on Ray Data: ``python client/batch.py --help``."""

from cocoer_client.batch.command import main

if __name__ == "__main__":
    raise SystemExit(main())
