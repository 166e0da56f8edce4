"""gRPC's own remarks, kept off the standard error of the commands."""

import os


def silence_grpc() -> None:
    """To be called before gRPC is imported, which is when it looks; what the user has set stays."""
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
