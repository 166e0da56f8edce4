"""``cocoer-infer``: images and videos to text, annotated images, JSON, CSV.

``command`` runs it: ``arguments`` (the command line), ``targets`` (what it may write), ``talk`` and ``report`` (what it
says). All else is the library's: ``pipeline`` and ``sinks``. Nothing imports from here.
"""

import os

from cocoer_client.silence import silence_grpc

silence_grpc()
# Pillow asks the system anew for each image's memory, which costs a fifth of the time to draw on a large photo. It is
# to keep up to so many blocks of 16 MB that are free; it looks at this when it is imported.
os.environ.setdefault("PILLOW_BLOCKS_MAX", "12")
