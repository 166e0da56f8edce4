"""Errors that are the caller's to mend."""

from __future__ import annotations


class InputError(ValueError):
    """A request that can't be served as it is; the message names what was wrong and what to do."""
