"""``cocoer-vlm``: what a vision-language model says of the persons in images, with all levels and without one.

``command`` starts it, ``run`` does it: ``arguments`` (the command line), ``people`` (found by the server), ``talk``
(what it says), ``record`` (JSON), ``report`` (the page). Of each person ``crops`` cuts the levels' images, ``modes``
says which of them are sent, ``prompt`` what is said with them (``prompt_file``: how it is read), ``endpoint`` asks
(``settings``, ``privacy``: whom; ``cache``: what was asked before; ``cost``: for how much; ``negotiation``: otherwise,
where a server refuses; ``reply``, ``told``, ``failures``: what comes back), ``answers`` reads what came
(``answer_text``: where in the text; ``spellings``: which names are labels); ``asking`` ties these together. Nothing of
the library imports from here; benchmarks do.
"""

from cocoer_client.silence import silence_grpc

silence_grpc()
