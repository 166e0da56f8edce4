"""What a result looks like: annotated ``images``, and ``explain``, a page of HTML.

``draw`` (from ``panel``, ``layout``, ``banner``, ``shapes``) is our style, ``release_style`` that of CocoER's script.
Takes RESULT as the server sent it, and Pillow's images; knows nothing of servers and command lines. The commands
import ``images`` and ``explain``.
"""
