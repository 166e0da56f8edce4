"""Films, streams and cameras, and the persons in them through time. Needs the extra ``video`` (PyAV, trackers).

``frames`` reads, ``file`` and ``sound`` write the annotated film; ``cuts``, ``tracking`` and ``smoothing`` are what
``through_time`` adds to the records of a film's frames. Knows nothing of servers; ``infer`` imports it.
"""
