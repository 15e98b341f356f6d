"""The model that MLflow serves: a batch of uint8 images in, index masks out.

MLflow stores this file's text and a copy of the package with the model ("models from code") and runs it to load the
model; nothing is pickled. torch is imported when the model is loaded: the stage that logs a model does not need it.
"""

from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import numpy.typing as npt


class SegmentationModel(mlflow.pyfunc.PythonModel):
    """Loads `model.json` and `weights.safetensors`, and predicts."""

    def load_context(self, context: Any) -> None:
        """Loads the network on the first GPU where there is one."""
        from segpipe.inference.device import choose_device
        from segpipe.inference.network import Network

        self.network = Network.load(Path(context.artifacts["model"]), choose_device("auto"))

    # A bare np.ndarray: MLflow reads any other annotation as a schema, which would replace the signature.
    def predict(
        self,
        context: Any,
        model_input: np.ndarray,
        params: dict[str, Any] | None = None,
    ) -> npt.NDArray[np.uint8]:
        """Predicts masks.

        Args:
            context: not used.
            model_input: (N, H, W, 3) uint8 RGB, any H and W.
            params: not used.

        Returns:
            (N, H, W) uint8 class indices.
        """
        return self.network.predict(np.asarray(model_input, np.uint8))


mlflow.models.set_model(SegmentationModel())
