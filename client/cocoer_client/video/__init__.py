"""Videos and cameras: ``frames`` of them, and a ``file`` of annotated ones. Needs the extra ``video`` (OpenCV).

Knows nothing of servers; ``infer`` imports it.
"""
