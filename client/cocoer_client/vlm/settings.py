"""Whom to ask, and how."""

from __future__ import annotations

from dataclasses import dataclass, field

from cocoer_client.vlm.privacy import host_of


@dataclass(frozen=True, kw_only=True)
class EndpointOptions:
    """A server with OpenAI's interface, and how to ask it.

    Args:
        model: as the server names it.
        base_url: ends before ``/chat/completions``.
        key: of the server; empty: it wants none.
        timeout: seconds without a byte of the answer, each try.
        retries: tries again of a request that was refused for now (429), failed (5xx) or got no answer.
        max_tokens: of an answer; with models that think before they answer, of their thoughts as well.

    Raises:
        InvalidInput: ``base_url`` is no such address, or holds a password.
    """

    model: str
    base_url: str
    key: str = field(default="", repr=False)
    timeout: float = 120.0
    retries: int = 4
    max_tokens: int = 400

    def __post_init__(self) -> None:
        host_of(self.base_url)
