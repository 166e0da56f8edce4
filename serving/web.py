"""``make web``: a build, a server, and the gateway with its page in front of it, until Ctrl-C."""

from __future__ import annotations

import argparse
import errno
import signal
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from serving.background import ServerFailed
from serving.building import PROJECT, REPOSITORY, build
from serving.gateway import Gateway
from serving.server import TritonServer

PORT = 8080
SERVER_LOG, GATEWAY_LOG = Path(".cache/web-server.log"), Path(".cache/web-gateway.log")
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PAUSE = 0.2


class Stopped(BaseException):
    """Somebody asks to stop, by a signal. No error: only what must be cleaned up may catch it."""


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Build what is missing, serve it, and put the page and the REST interface in front, until Ctrl-C."
    )
    parser.add_argument("--port", type=int, default=PORT, help=f"port of the page, on 127.0.0.1 (default: {PORT})")
    parser.add_argument(
        "--repository",
        type=Path,
        metavar="DIR",
        help=f"serve this model repository as it is; without it, {REPOSITORY} is brought up to date and served",
    )
    parser.add_argument("arguments", nargs="*", metavar="OPTION", help="more of cocoer-web's options, after --")
    return parser


def port_trouble(port: int) -> str:
    """Why nobody can listen on a port of 127.0.0.1, and what to do; empty if one can."""
    if not 0 < port < 65536:
        return f"there is no port {port}; ports are 1 to 65535: make web PORT={PORT}"
    with socket.socket() as probe:
        # As the gateway's own: connections of the one before that are not quite over are in nobody's way.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            cause = "is in use" if error.errno == errno.EADDRINUSE else f"can't be listened on ({error.strerror})"
            other = port + 1 if 1024 <= port < 65535 else PORT
            return f"port {port} of 127.0.0.1 {cause}; choose another: make web PORT={other}"
    return ""


def stop_by_signals() -> None:
    """From here on the first of STOPPING raises Stopped; those that were ignored (nohup) still are."""

    def stop(number: int, frame: FrameType | None) -> None:
        ignore_signals()
        raise Stopped

    for one in STOPPING:
        if signal.getsignal(one) is not signal.SIG_IGN:
            signal.signal(one, stop)


def ignore_signals() -> None:
    """What is being stopped is not interrupted."""
    for one in STOPPING:
        signal.signal(one, signal.SIG_IGN)


def watch(server: TritonServer, gateway: Gateway) -> str:
    """Wait until one of the two ends; what happened."""
    while True:
        if (code := gateway.process.poll()) is not None:
            return f"cocoer-web ended with code {code}; tritonserver is stopped, too:\n{gateway.log_tail()}"
        if (code := server.process.poll()) is not None:
            return f"tritonserver ended with code {code}; cocoer-web is stopped, too:\n{server.log_tail()}"
        time.sleep(PAUSE)


def serve(repository: Path, port: int, arguments: Sequence[str]) -> int:
    """Server and gateway until one of them ends (1), or Stopped is raised.

    Args:
        repository: what the server serves.
        port: of the gateway.
        arguments: more of its options.

    Raises:
        ServerFailed: one of them does not start.
    """
    print(f"\nStarting tritonserver (log: {SERVER_LOG}) ...", flush=True)
    with TritonServer(repository, PROJECT / SERVER_LOG, own_session=True) as server:
        print(f"Starting cocoer-web (log: {GATEWAY_LOG}) ...", flush=True)
        with Gateway(server.url, port, PROJECT / GATEWAY_LOG, arguments) as gateway:
            print(f"\nOpen {gateway.url} in a browser, or {gateway.url}/docs for the REST interface.", flush=True)
            print("Ctrl-C stops both.", flush=True)
            try:
                trouble = watch(server, gateway)
                ignore_signals()
            except Stopped:
                print("\nStopping; what runs is finished first ...", flush=True)
                raise
        print(f"error: {trouble}", file=sys.stderr)
    return 1


def main(argv: Sequence[str] | None = None) -> int:
    args = make_parser().parse_args(argv)
    if trouble := port_trouble(args.port):  # before the build, which may take minutes
        print(f"error: {trouble}", file=sys.stderr)
        return 1
    stop_by_signals()
    try:
        if args.repository is None and (code := build()):
            return code
        return serve(args.repository or PROJECT / REPOSITORY, args.port, args.arguments)
    except ServerFailed as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except Stopped:
        print("Stopped.")
        return 0


if __name__ == "__main__":
    raise SystemExit(main())
