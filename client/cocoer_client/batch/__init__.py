"""``cocoer-batch``: any number of images through one or many servers, on Ray Data, to a Parquet data set.

``command`` runs it: ``arguments`` (the command line), ``lease`` and ``holder`` (one driver at a time), ``agreement``
(one model, before the first image), ``shards`` (what is to be done and is done) and ``job`` (what it is of),
``ray_data`` and ``worker`` (who does it), ``server_pool`` and ``server`` (several servers as one), ``storage`` and
``paths`` (buckets, and names of images), ``statistics`` (what is told at the end). Needs the extra ``batch``;
``command``, ``arguments`` and ``statistics`` don't, so that they can say so. Nothing else imports from here.
"""

from cocoer_client.silence import silence_grpc

silence_grpc()
