"""Before the first image: all servers are asked which model they have, and whether they take the options."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from cocoer_client.batch.server_pool import NoServer
from cocoer_client.client import CocoerClient
from cocoer_client.command import Connection
from cocoer_client.errors import CocoerError, InvalidInput, InvalidRequest, ServerError
from cocoer_client.inputs import NOTHING
from cocoer_client.key import ResultKey
from cocoer_client.protocol import Thresholds
from cocoer_client.results import ModelInfo, Result

PAUSE = 1.0
"""Seconds until servers are asked again that have not answered."""


@dataclass(frozen=True)
class Agreement:
    """What the servers have in common.

    Args:
        model: theirs.
        labels: theirs.
        silent: server -> why it has not answered; its answers are looked at when they come.
    """

    model: ModelInfo
    labels: tuple[str, ...]
    silent: dict[str, str]


def agree(
    urls: Sequence[str],
    connection: Connection,
    options: Thresholds,
    patience: float,
    tell: Callable[[str], None],
) -> Agreement:
    """Ask all servers about an image without anybody; waits until one answers.

    Args:
        urls: host:port of each.
        connection: how they are reached.
        options: request parameters.
        patience: seconds to wait for the first answer.
        tell: told once that one waits.

    Raises:
        InvalidRequest: a server refuses an option.
        InvalidInput: the servers have different models; names them.
        NoServer: none has answered.
        ServerError: all servers fail, or refuse the call.
    """
    answers: dict[str, Result] = {}
    silent: dict[str, str] = {}
    started = time.monotonic()

    def ask(url: str) -> Result | CocoerError:
        try:
            with CocoerClient(url, **{**connection.arguments(), "retries": 0}) as client:
                result: Result = client.infer(NOTHING, [], **options)
                return result
        except InvalidRequest as error:
            raise InvalidRequest(f"{url} refuses the options: {error}") from error
        except CocoerError as error:
            return error

    with ThreadPoolExecutor(len(urls)) as threads:
        while not answers:
            outcomes = dict(zip(urls, threads.map(ask, urls)))
            answers = {url: outcome for url, outcome in outcomes.items() if isinstance(outcome, Result)}
            failures = {url: outcome for url, outcome in outcomes.items() if isinstance(outcome, CocoerError)}
            if not answers:
                last = list(failures.values())[-1]
                # All are there and fail, or want a key: it helps nobody to wait.
                if all(isinstance(error, ServerError) for error in failures.values()):
                    raise last
                if time.monotonic() - started + PAUSE > patience:
                    raise NoServer(f"no server has answered for {patience:g} s; the last said: {last}")
                if not silent:
                    tell(f"waiting for a server, {patience:g} s at most: {last}")
                time.sleep(PAUSE)
            silent = {url: str(error) for url, error in failures.items()}
    _require_one_model(answers)
    first = next(iter(answers.values()))
    return Agreement(first.model, first.labels, silent)


def _require_one_model(answers: dict[str, Result]) -> None:
    (first, result), *others = answers.items()
    for url, other in others:
        differences = ResultKey.of(result.model.model_dump()).differences(ResultKey.of(other.model.model_dump()))
        if differences:
            raise InvalidInput(
                f"{first} and {url} have different models: {', '.join(differences)}. Serve one model everywhere, or "
                "name the servers of one"
            )
