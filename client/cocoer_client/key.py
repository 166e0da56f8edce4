"""What decides a result: the model that answered, what it was asked, and how the answer is drawn.

Results of one key are results of one run, however often it was interrupted. The journal of ``cocoer-infer`` and the job
of ``cocoer-batch`` compare keys: what was made with another does not count as done, and a server whose model changes
while a run goes on is noticed by it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cocoer_client.errors import ModelChanged

OF_MODEL = ("weights", "precision", "detector", "channel_order", "coordination_step")
"""Fields of RESULT's ``model`` that results depend on; ``version`` is the server's, which changes no result."""


@dataclass(frozen=True)
class ResultKey:
    """One flat table: what a result depends on -> its value, as JSON has it.

    Args:
        values: for instance ``{"weights": "3f2a...", "precision": "fp32", "min_score": 0.6, "frame_step": 10}``. What
            is not given, and what is None, is a default.
    """

    values: Mapping[str, Any]

    @classmethod
    def of(cls, model: Mapping[str, Any], **asked: Any) -> ResultKey:
        """The key of results.

        Args:
            model: RESULT's ``model``.
            **asked: request parameters and options that were given.
        """
        # A server before this field always takes a whole step.
        known = {"coordination_step": 1.0, **model}
        values = {name: known[name] for name in OF_MODEL}
        return cls(values | {name: value for name, value in asked.items() if value is not None})

    def differences(self, other: ResultKey) -> list[str]:
        """What ``other`` has otherwise, for a message; empty where they are equal.

        >>> ResultKey({"precision": "fp32", "min_score": 0.6}).differences(ResultKey({"precision": "fp16"}))
        ['min_score was 0.6 and is the default', 'precision was fp32 and is fp16']
        """
        names = sorted({*self.values, *other.values})
        changed = [name for name in names if self.values.get(name) != other.values.get(name)]
        return [f"{name} was {_shown(self, name)} and is {_shown(other, name)}" for name in changed]


def _shown(key: ResultKey, name: str) -> str:
    """As long as a person can compare; a hash's beginning tells it.

    >>> _shown(ResultKey({"weights": "sha256:" + 64 * "a"}), "weights")
    'sha256:aaaaaaaa...'
    """
    value = key.values.get(name)
    if isinstance(value, str) and value.startswith("sha256:"):
        return f"{value[:15]}..."
    return "the default" if value is None else str(value)


def require_same_model(before: Mapping[str, Any], result: Mapping[str, Any]) -> None:
    """Raise ``ModelChanged`` where a RESULT is of another model than the run's.

    Args:
        before: RESULT's ``model`` at the run's beginning.
        result: a RESULT.
    """
    changed = ResultKey.of(before).differences(ResultKey.of(result["model"]))
    if changed:
        raise ModelChanged(f"the server's model has changed: {', '.join(changed)}")
