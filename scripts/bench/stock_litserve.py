"""LitServe's own batching, as its documentation has it. In a module of its own: the worker finds it by name."""

import base64
from typing import Any

import litserve
from fastapi import Request

from bench.other_servers import predict

BATCH, WINDOW_SEC = 16, 0.005


class Policy(litserve.LitAPI):
    """Pictures travel as base64 in JSON: LitServe's requests are JSON."""

    def setup(self, device: str) -> None:
        """The toy holds nothing."""

    def decode_request(self, request: Request) -> bytes:  # the annotation says: JSON, which is read by now
        return base64.b64decode(request["observation"])

    def batch(self, inputs: list[bytes]) -> list[bytes]:
        return inputs

    def predict(self, x: list[bytes]) -> list[Any]:
        chunk = [step["robot_command"]["positions"].tolist() for step in predict(len(x))]
        return [chunk] * len(x)

    def unbatch(self, output: list[Any]) -> list[Any]:
        return output

    def encode_response(self, output: Any) -> dict[str, Any]:
        return {"result": output}


def serve(port: int) -> None:
    """Until interrupted."""
    api = Policy(max_batch_size=BATCH, batch_timeout=WINDOW_SEC)
    server = litserve.LitServer(api, accelerator="cpu", timeout=False)
    server.run(host="127.0.0.1", port=port, generate_client_file=False, log_level="warning")
