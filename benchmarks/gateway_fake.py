"""A server that answers every request at once with the same RESULT: what remains is what the gateway itself costs.

python -m benchmarks.gateway_fake RESULT.json --port 8001
"""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

import grpc
import numpy as np
from tritonclient.grpc import service_pb2
from tritonclient.utils import serialize_byte_tensor

SERVICE = "inference.GRPCInferenceService"


def response(result: bytes) -> bytes:
    """A ``ModelInferResponse`` with one RESULT, as on the wire."""
    answer = service_pb2.ModelInferResponse(model_name="cocoer", model_version="1")
    answer.outputs.add(name="RESULT", datatype="BYTES", shape=[1, 1])
    answer.raw_output_contents.append(serialize_byte_tensor(np.array([result], dtype=object)).item())
    return answer.SerializeToString()


def handlers(result: bytes) -> grpc.GenericRpcHandler:
    """What is asked is not read, and answers are made once."""
    ready = service_pb2.ModelReadyResponse(ready=True).SerializeToString()
    answers = {"ModelInfer": response(result), "ModelReady": ready}

    def handler(answer: bytes) -> grpc.RpcMethodHandler:
        async def say(_request: bytes, _context: grpc.aio.ServicerContext) -> bytes:
            return answer

        return grpc.unary_unary_rpc_method_handler(say)

    return grpc.method_handlers_generic_handler(SERVICE, {name: handler(answer) for name, answer in answers.items()})


async def serve(result: bytes, port: int) -> None:
    """Until the process is ended."""
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", -1)])
    server.add_generic_rpc_handlers((handlers(result),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


def main() -> None:
    parser = argparse.ArgumentParser(description="Answer every request at once with the same RESULT.")
    parser.add_argument("result", type=Path, help="file with it, JSON")
    parser.add_argument("--port", type=int, default=8001)
    args = parser.parse_args()
    # So that glibc keeps what large messages have taken: to fetch it anew each time would double this server's cost.
    bytes(31 << 20)
    asyncio.run(serve(args.result.read_bytes(), args.port))


if __name__ == "__main__":
    main()
