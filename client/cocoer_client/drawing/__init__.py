"""What a result looks like: annotated ``images``, their files (``formats``), and ``explain``, a page of HTML.

``draw`` is our style: ``figures`` (boxes and numbers) with a ``panel`` each, ``beside`` the faces with ``leaders`` to
them (``layout`` finds the places) or in a ``margin``, below a ``banner``; all of ``shapes``. ``release_style`` is that
of CocoER's script. Takes RESULT as the server sent it, and Pillow's images; knows nothing of servers and command lines.
"""
