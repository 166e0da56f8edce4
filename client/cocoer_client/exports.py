"""A result as what other libraries work with: a table of pandas, supervision's detections. Each is an extra."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from cocoer_client.columns import column_names, plain_rows
from cocoer_client.optional import needs

if TYPE_CHECKING:
    import pandas
    import supervision

    from cocoer_client.results import Result


def to_pandas(result: Result, file: str = "") -> pandas.DataFrame:
    """See ``Result.to_pandas``."""
    needs("to_pandas", "pandas", extra="pandas")
    import pandas

    rows = plain_rows({**result.raw, "file": file}) if result.persons else []
    names = [name for name in column_names(result.labels) if name not in ("frame", "error")]
    return pandas.DataFrame(rows, columns=names)


def to_supervision(result: Result) -> supervision.Detections:
    """See ``Result.to_supervision``."""
    needs("to_supervision", "supervision", extra="supervision")
    import supervision

    persons = result.persons
    data: dict[str, Any] = {
        "person": np.array([person.id for person in persons], dtype=np.int64),
        "labels": [list(person.pred) for person in persons],
        "scores": np.array([person.scores.pred for person in persons], dtype=np.float32).reshape(
            -1, len(result.labels)
        ),
        "head_xyxy": np.array([person.head_box for person in persons], dtype=np.float32).reshape(-1, 4),
    }
    boxes = np.array([person.body_box for person in persons], dtype=np.float32).reshape(-1, 4)
    return supervision.Detections(xyxy=boxes, data=data, metadata={"labels": list(result.labels)})
