"""Where records go: ``streams`` (JSON, JSON Lines, CSV, written as results come), ``coco``, ``parquet``.

A ``Sink`` gets records one by one, and is closed. What a file's name stands for is complete: until it is closed, a file
has another name. Knows nothing of servers and command lines; ``pipeline`` and ``infer`` import it.
"""

from cocoer_client.sinks.base import Sink
from cocoer_client.sinks.coco import CocoFile
from cocoer_client.sinks.parquet import ParquetFile
from cocoer_client.sinks.streams import CsvFile, JsonFile, JsonLinesFile

__all__ = ["CocoFile", "CsvFile", "JsonFile", "JsonLinesFile", "ParquetFile", "Sink"]
