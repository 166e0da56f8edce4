"""``cocoer-infer``: images and videos to text, annotated images, JSON, CSV.

``command`` runs it: ``arguments`` (the command line), ``run`` (sources to records), ``talk`` and ``report`` (what it
says), ``outputs`` and ``columns`` (what it writes), ``journal`` (what ``--resume`` reads), ``names`` (of its images).
Nothing else imports from here; the library (``cocoer_client``) knows nothing of it.
"""

from cocoer_client.silence import silence_grpc

silence_grpc()
