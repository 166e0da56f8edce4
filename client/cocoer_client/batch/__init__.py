"""``cocoer-batch``: any number of images through one or many servers, on Ray Data, to a Parquet data set.

``command`` runs it: ``arguments`` (the command line), ``shards`` (what is to be done and is done), ``ray_data`` and
``worker`` (who does it), ``server_pool`` (several servers as one), ``rows`` (the table). Needs the extra ``batch``;
``command`` and ``arguments`` don't, so that they can say so. Nothing else imports from here.
"""

from cocoer_client.silence import silence_grpc

silence_grpc()
