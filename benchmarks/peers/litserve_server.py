"""LitServe around an ONNX export, as its documentation shows it: the peer of `benchmarks/serve.py`.

It runs in an environment of its own, because LitServe's packages change how Prefect's and MLflow's servers run:

    python3.11 -m venv /tmp/litserve
    /tmp/litserve/bin/pip install litserve onnxruntime opencv-python-headless
    python benchmarks/serve.py MODEL IMAGE --litserve /tmp/litserve/bin/python

Arguments: the file `model.onnx`, a port, and ONNX Runtime's number of threads (0: all cores).
"""

import base64
import sys

import cv2
import litserve
import numpy as np
import onnxruntime
from fastapi import Response


class Api(litserve.LitAPI):  # type: ignore[misc]
    """A picture in base64 in, its index mask as PNG out."""

    def setup(self, device: str) -> None:
        """Loads the model in the worker's process."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(sys.argv[3])
        self.session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])

    def decode_request(self, request: dict[str, str]) -> np.ndarray:
        """Gives the pixels, (H, W, 3) uint8 RGB."""
        content = np.frombuffer(base64.b64decode(request["image"]), np.uint8)
        pixels = cv2.imdecode(content, cv2.IMREAD_COLOR)
        assert pixels is not None
        return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB))

    def predict(self, pixels: np.ndarray) -> np.ndarray:
        """Gives the mask, (H, W) uint8."""
        (masks_NHW,) = self.session.run(["masks"], {"images": pixels[None]})
        return np.asarray(masks_NHW[0])

    def encode_response(self, output: np.ndarray) -> Response:
        """Gives a PNG."""
        return Response(cv2.imencode(".png", output)[1].tobytes(), media_type="image/png")


if __name__ == "__main__":
    litserve.LitServer(Api(), accelerator="cpu").run(
        port=int(sys.argv[2]), generate_client_file=False, log_level="warning"
    )
