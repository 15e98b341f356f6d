"""The model that MLflow serves: images in, index masks out; each as pixels or as encoded files.

MLflow stores this file's text and a copy of the package with the model ("models from code") and runs it to load the
model; nothing is pickled. torch is imported when the model is loaded: the stage that logs a model does not need it.

MLflow lets both through only by the signature of an array of objects, which says nothing about them. So the input is
checked here.
"""

import base64
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import numpy.typing as npt
from mlflow.exceptions import MlflowException

Encoded = bytes | str
FORMS = (
    "give (N, H, W, 3) uint8 RGB, or one column of encoded images (JPEG, PNG, TIFF, WebP), each as bytes or as base64"
)


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
    ) -> npt.NDArray[np.uint8] | list[Encoded]:
        """Predicts masks.

        Args:
            context: not used.
            model_input: (N, H, W, 3) uint8 RGB, any H and W; or (N,) encoded images of any sizes, each as the bytes of
                a file or as their base64.
            params: not used.

        Returns:
            (N, H, W) uint8 class indices; of encoded images a list of PNG files with the indices in one channel of 8
            bits, each as bytes or as base64, as its image was given.

        Raises:
            MlflowException: the input has another form, or an image cannot be read; says which.
        """
        values = np.asarray(model_input)
        if values.ndim == 1 and len(values):
            return [self._predict_encoded(image, place) for place, image in enumerate(values.tolist())]
        return self.network.predict(_as_pixels(values))

    def _predict_encoded(self, image: object, place: int) -> Encoded:
        from segpipe.errors import SegpipeError
        from segpipe.reports.drawing.overlay import encode_png
        from segpipe.serving.encoded import decode_image

        if not isinstance(image, bytes | bytearray | str):
            raise _refusal(f"image {place} is of type {type(image).__name__}; {FORMS}")
        try:
            # A browser puts `data:image/jpeg;base64,` before it.
            content = base64.b64decode(image.rpartition(",")[2]) if isinstance(image, str) else bytes(image)
            pixels = decode_image(content, self.network.image_mapping).pixels
        except ValueError as error:
            raise _refusal(f"image {place} is not base64: {error}") from error
        except SegpipeError as error:
            raise _refusal(f"image {place} {error}") from error
        mask = encode_png(self.network.predict(pixels[None])[0])
        return base64.b64encode(mask).decode("ascii") if isinstance(image, str) else mask


def _as_pixels(values: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Checks a batch of pixels; those of a request as JSON are objects of Python."""
    if values.ndim != 4 or values.shape[3] != 3:
        raise _refusal(f"the input has the shape {values.shape}; {FORMS}")
    pixels = _narrow(values) if values.dtype == object else values
    if pixels.dtype != np.uint8:
        raise _refusal(f"the pixels are {values.dtype}; {FORMS}")
    return np.ascontiguousarray(pixels)


def _narrow(values: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    numbers = np.array(values.tolist())
    if numbers.dtype.kind in "iuf":
        with np.errstate(invalid="ignore"):
            pixels = numbers.astype(np.uint8)
        if np.array_equal(pixels, numbers):
            return pixels
    raise _refusal(f"the pixels must be integers of 0..255; {FORMS}")


def _refusal(message: str) -> MlflowException:
    """Gives an error that MLflow's server answers with 400."""
    return MlflowException.invalid_parameter_value(message)


mlflow.models.set_model(SegmentationModel())
