"""Triton's command line: what is added to make it safe, what is refused, and what it says of the endpoints."""

from __future__ import annotations

import functools
import ipaddress
import math
import os
import re
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path

from serving.bf16 import precision_of_build, why_not_bf16
from serving.drain import EXIT_TIMEOUT, MAX_DRAIN, UNLOADING, Drain
from serving.endpoints import Endpoints
from serving.probe import PERIOD, Probe

ADDRESS_FLAGS = ("--http-address", "--grpc-address", "--metrics-address")
CLOUD_FLAGS = ("--allow-sagemaker", "--allow-vertex-ai")
"""Endpoints without an address flag: they listen on every address, and know no restrictions."""
RESTRICTION_FLAGS = ("--http-restricted-api", "--grpc-restricted-protocol")
RESTRICTED = ("shared-memory", "model-repository", "trace", "logging")
"""Protocols that change a running server."""
KEY_HEADER, KEY_VARIABLE = "triton-admin-key", "COCOER_ADMIN_KEY"
FIXED_RELEASE = (26, 3)
KNOWN_CVES = ("CVE-2025-23310", "CVE-2025-23311", "CVE-2025-23316", "CVE-2025-23319", "CVE-2026-24207")
"""The gravest that releases before ``FIXED_RELEASE`` have; NVIDIA's bulletins have them all."""
RELEASE_VARIABLE = "NVIDIA_TRITON_SERVER_VERSION"
"""How NVIDIA's containers tell their release ("26.03")."""
OFF = ("false", "0")
HEALTH_VARIABLE = "COCOER_HEALTH_ADDRESS"
"""Where orchestrators may ask (``serving.health``), as in 0.0.0.0:8003; unset: nowhere."""
PROBE_VARIABLE = "COCOER_PROBE_SECONDS"
"""Time between two probes; 0: none."""
ACCEPT_VARIABLE = "COCOER_ACCEPT_VULNERABLE_TRITON"


class LauncherError(Exception):
    """Triton can't be started; the message says why and what to do."""


def has_flag(arguments: Sequence[str], flag: str) -> bool:
    """Whether a command line sets ``--flag value`` or ``--flag=value``.

    >>> has_flag(["--http-port=1"], "--http-port"), has_flag(["--http-port", "1"], "--http")
    (True, False)
    """
    return any(argument == flag or argument.startswith(f"{flag}=") for argument in arguments)


def flag_value(arguments: Sequence[str], flag: str) -> str:
    """What a command line sets a flag to, the last time; empty where it doesn't.

    >>> flag_value(["--http-port", "1", "--http-port=2"], "--http-port")
    '2'
    """
    return next(reversed(flag_values(arguments, flag)), "")


def secure_arguments(arguments: Sequence[str]) -> list[str]:
    """Flags to add, each where the user does not set it.

    No port is open to the network; all models load at the start, or the server does not; and what changes a running
    server (shared memory, models, logging, tracing) wants a header with a key that nobody has, unless
    ``COCOER_ADMIN_KEY`` gives it.
    """
    key = os.environ.get(KEY_VARIABLE) or secrets.token_urlsafe(32)
    defaults = {
        # Triton's metrics follow the HTTP address unless told otherwise, also when that one is opened on purpose.
        **dict.fromkeys(ADDRESS_FLAGS, "127.0.0.1"),
        "--model-control-mode": "none",
        "--exit-on-error": "true",
        "--strict-readiness": "true",
        "--exit-timeout-secs": str(EXIT_TIMEOUT),
    }
    added = [f"{flag}={value}" for flag, value in defaults.items() if not has_flag(arguments, flag)]
    for flag in RESTRICTION_FLAGS:
        if left := [protocol for protocol in RESTRICTED if protocol not in restricted_by(arguments, flag)]:
            added.append(f"{flag}={','.join(left)}:{KEY_HEADER}={key}")
    return added


def flag_values(arguments: Sequence[str], flag: str) -> list[str]:
    """What a command line sets a flag to, each time."""
    values = []
    for index, argument in enumerate(arguments):
        if argument == flag and index + 1 < len(arguments):
            values.append(arguments[index + 1])
        elif argument.startswith(f"{flag}="):
            values.append(argument.partition("=")[2])
    return values


def check_repositories(arguments: Sequence[str]) -> None:
    """Say what to do about a repository that is not there; Triton says that it failed to poll it.

    Raises:
        LauncherError: a directory of this machine does not exist; object stores (s3://...) are Triton's to look at.
    """
    for flag in ("--model-repository", "--model-store"):
        for path in flag_values(arguments, flag):
            if "://" not in path and not os.path.isdir(path):
                raise LauncherError(
                    f"the model repository {path} does not exist. Build it: python export/build_engines.py "
                    f"--repository {path}"
                )


def check_bf16(arguments: Sequence[str], needs_package: bool) -> None:
    """Refuse to serve in bf16 where that can't be; a server that computes in FP32 after all would look like any other.

    Args:
        arguments: Triton's command line.
        needs_package: as ``why_not_bf16`` takes it.

    Raises:
        LauncherError: a repository is a build in bf16, and this machine can't run it.
    """
    for path in flag_values(arguments, "--model-repository"):
        if precision_of_build(Path(path)) == "bf16" and (problem := why_not_bf16(needs_package)):
            raise LauncherError(f"{path} was built with --precision bf16, which can't be served here: {problem}")


def restricted_by(arguments: Sequence[str], flag: str) -> set[str]:
    """The protocols that a command line restricts by itself; Triton refuses to have one restricted twice.

    >>> sorted(restricted_by(["--http-restricted-api=trace,health:a=b"], "--http-restricted-api"))
    ['health', 'trace']
    """
    groups = (value.partition(":")[0] for value in flag_values(arguments, flag))
    return {protocol.strip() for group in groups for protocol in group.split(",")}


def check_exposure(release: str, arguments: Sequence[str]) -> None:
    """Keep a Triton off the network that has known vulnerabilities, or may have.

    Raises:
        LauncherError: an address that is not loopback, and an old release, or one that nothing tells.
    """
    numbers = re.match(r"(\d+)\.(\d+)", release)
    fixed = numbers is not None and (int(numbers[1]), int(numbers[2])) >= FIXED_RELEASE
    exposed = [address for flag in ADDRESS_FLAGS if not is_loopback(address := flag_value(arguments, flag))]
    exposed += ["0.0.0.0" for flag in CLOUD_FLAGS if flag_value(arguments, flag).lower() not in ("", *OFF)]
    if os.environ.get("AIP_MODE") == "PREDICTION" and not has_flag(arguments, "--allow-vertex-ai"):
        exposed.append("0.0.0.0")  # Triton then opens Vertex AI's endpoint unasked
    if fixed or not exposed or os.environ.get(ACCEPT_VARIABLE) == "1":
        return
    if numbers:
        why = f"Triton {release} has known vulnerabilities"
    else:
        why = f"{RELEASE_VARIABLE} does not tell the release of this Triton, and older ones have known vulnerabilities"
    raise LauncherError(
        f"{why} ({', '.join(KNOWN_CVES)}), so it may not listen on {exposed[0]}. Use NVIDIA's container "
        f"{FIXED_RELEASE[0]}.{FIXED_RELEASE[1]:02d} or later; or, if only you can reach that address, set "
        f"{ACCEPT_VARIABLE}=1"
    )


def is_loopback(address: str) -> bool:
    """Whether only this machine reaches an address.

    >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("0.0.0.0"), is_loopback("example.org")
    (True, True, False, False)
    """
    try:
        return address == "localhost" or ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def endpoint(arguments: Sequence[str], name: str, port: int) -> tuple[str, int] | None:
    """Host and port of an endpoint (http, metrics), as this machine reaches it; None where it is off."""
    if flag_value(arguments, f"--allow-{name}").lower() in OFF:
        return None
    address = flag_value(arguments, f"--{name}-address")
    given = flag_value(arguments, f"--{name}-port")
    return "127.0.0.1" if address in ("", "0.0.0.0") else address, int(given) if given.isdecimal() else port


def drain_of(arguments: Sequence[str]) -> Drain:
    """How to let the server of this command line finish before it stops.

    >>> drain_of(["--http-port=1", "--http-address", "0.0.0.0", "--allow-metrics=false"])
    Drain(http=('127.0.0.1', 1), metrics=None, seconds=55.0)
    """

    # Triton gives up waiting for connections after its own time, and calls that a failure.
    limit = flag_value(arguments, "--exit-timeout-secs")
    seconds = max(0.0, float(limit) - UNLOADING) if limit.isdecimal() else MAX_DRAIN
    return Drain(endpoint(arguments, "http", 8000), endpoint(arguments, "metrics", 8002), seconds)


def probe_of(arguments: Sequence[str]) -> Callable[[], Probe] | None:
    """What asks the server of this command line whether it answers; None where nobody can.

    Raises:
        LauncherError: ``COCOER_PROBE_SECONDS`` is no number.
    """
    text = os.environ.get(PROBE_VARIABLE, f"{PERIOD:g}")
    try:
        period = float(text)
        if not 0 <= period < math.inf:
            raise ValueError
    except ValueError:
        raise LauncherError(f"{PROBE_VARIABLE} must be a number of seconds (0: no probes), got {text!r}") from None
    http = endpoint(arguments, "http", 8000)
    if http is None:
        return None
    return functools.partial(Probe, Endpoints(http, endpoint(arguments, "metrics", 8002)), period)


def health_address() -> tuple[str, int] | None:
    """Host and port of ``COCOER_HEALTH_ADDRESS``; None where it is not set.

    Raises:
        LauncherError: it is no address.
    """
    text = os.environ.get(HEALTH_VARIABLE, "")
    if not text:
        return None
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise LauncherError(f"{HEALTH_VARIABLE} must be host:port, as in 0.0.0.0:8003, got {text!r}")
    return host.strip("[]"), int(port)
