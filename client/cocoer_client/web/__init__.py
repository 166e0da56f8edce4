"""``cocoer-web``: the REST interface and the page, in front of any number of Triton servers. Needs the extra ``web``.

A gateway without state: bytes come in over HTTP, go to Triton over gRPC, and RESULT, an annotated image or a page
comes back. ``command`` starts it, from ``settings``; ``app`` puts it together from the endpoints in ``routes``;
``upload`` reads bodies within limits, ``asked`` what is asked for beside the image, ``accept`` which format is
answered; ``recognition`` asks Triton and draws, ``about`` knows the model; ``problems`` are its errors (RFC 9457).
``openapi`` describes all that, with ``components`` and ``examples.json``; ``docs`` shows it, with the files in
``swagger/``; ``page/`` is what browsers get. Nothing else imports from here.
"""

import os

from cocoer_client.silence import silence_grpc

silence_grpc()
# As for cocoer-infer, whose images are drawn in the same way.
os.environ.setdefault("PILLOW_BLOCKS_MAX", "12")
