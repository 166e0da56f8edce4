"""Any number of images and videos through one server, as a library: what ``cocoer-infer`` runs, without its arguments.

``options`` (what is asked and made), ``run`` (sources to outcomes), ``tasks`` (one image or frame, and what became of
it), ``stages`` (asking, then drawing, several at once and in order), ``patience`` (what is asked again), ``images``
(draws and saves), ``following`` (persons through videos), ``names`` (of annotated images), ``journal`` and ``history``
(what is kept of an earlier run), ``totals`` (counts, failures, warnings). Knows nothing of command lines; ``infer``
imports it.
"""

from cocoer_client.pipeline.journal import Journal
from cocoer_client.pipeline.options import RunOptions
from cocoer_client.pipeline.run import Run
from cocoer_client.pipeline.tasks import Outcome, Task
from cocoer_client.pipeline.totals import Totals

__all__ = ["Journal", "Outcome", "Run", "RunOptions", "Task", "Totals"]
