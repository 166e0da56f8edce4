"""``cocoer-infer``: images and videos to text, annotated images, JSON, CSV.

``command`` runs it: ``arguments`` (the command line), ``targets`` (what it may write), ``talk`` and ``report`` (what it
says). All else is the library's: ``pipeline`` and ``sinks``. Nothing imports from here.
"""

from cocoer_client.silence import silence_grpc

silence_grpc()
