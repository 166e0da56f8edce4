"""``--timeline``: what became of each person through a film, as a page, an image for slides, or a table.

``collect`` takes the records of a film's frames, in bounded memory; ``rows`` makes of it what is drawn of each person;
``page`` (with ``timeline.html.j2``), ``image`` and ``table`` write. Knows nothing of servers and runs.
"""
