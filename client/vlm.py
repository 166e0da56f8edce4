"""Ask a vision-language model about the persons in images: ``python client/vlm.py --help``."""

from cocoer_client.vlm.command import main

if __name__ == "__main__":
    raise SystemExit(main())
