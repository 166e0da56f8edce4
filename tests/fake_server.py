"""A gRPC server with Triton's interface that answers as a test says, for tests to which it matters little what."""

from __future__ import annotations

import json
import struct
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

Answer = Callable[[bytes, int], Mapping[str, Any]]
"""RESULT of an image's bytes, and of how many requests there are; raises ``Refused``."""


CONFIG = {
    "max_bytes": "33554432",
    "max_pixels": "50000000",
    "max_persons": "512",
    "formats": "JPEG,PNG,WEBP,BMP",
    "final_threshold": "0.26",
    "level_threshold": "0.6",
    "min_score": "0.5",
    "on_damage": "refuse",
}
"""Parameters of the model's configuration."""


class Refused(Exception):
    """What the server says instead of a RESULT."""

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


class FakeServer(service_pb2_grpc.GRPCInferenceServiceServicer):
    """Args: ``answer``, how it answers. ``last_request`` is Triton's message of the newest request, or None."""

    def __init__(self, answer: Answer) -> None:
        self.answer, self.port, self.in_flight = answer, 0, 0
        self.ready = True
        self.last_request: Any = None
        self._lock = threading.Lock()
        self._server: grpc.Server | None = None

    @property
    def url(self) -> str:
        """host:port."""
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Begin, or begin again at the same port."""
        self._server = grpc.server(ThreadPoolExecutor(32))
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(self, self._server)
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        self._server.start()

    def kill(self) -> None:
        """End at once; what was on its way is lost."""
        assert self._server is not None
        self._server.stop(0).wait()

    def ModelReady(self, request: Any, context: grpc.ServicerContext) -> Any:
        return service_pb2.ModelReadyResponse(ready=self.ready)

    def ModelConfig(self, request: Any, context: grpc.ServicerContext) -> Any:
        answer = service_pb2.ModelConfigResponse()
        for name, value in CONFIG.items():
            answer.config.parameters[name].string_value = value
        return answer

    def ModelInfer(self, request: Any, context: grpc.ServicerContext) -> Any:
        with self._lock:
            self.in_flight += 1
            now, self.last_request = self.in_flight, request
        try:
            images = [one for one, about in zip(request.raw_input_contents, request.inputs) if about.name == "IMAGE"]
            text = json.dumps(self.answer(images[0][4:], now)).encode()  # after the length
        except Refused as refused:
            context.abort(refused.code, refused.message)
        finally:
            with self._lock:
                self.in_flight -= 1
        answer = service_pb2.ModelInferResponse(model_name="cocoer", model_version="1")
        answer.outputs.add(name="RESULT", datatype="BYTES", shape=[1, 1])
        answer.raw_output_contents.append(struct.pack("<I", len(text)) + text)
        return answer
