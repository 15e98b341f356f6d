"""The network in torch, with the face of an export: what an export is compared with, and used in place of."""

import numpy as np
import numpy.typing as npt
import torch

from segpipe.export.exported import Prediction
from segpipe.inference.logits import most_likely
from segpipe.inference.predictor import Predictor


def predict_in_torch(predictor: Predictor, images_NHWC: npt.NDArray[np.uint8]) -> Prediction:
    """Predicts masks and confidences as a model was measured.

    Args:
        predictor: of the network.
        images_NHWC: (N, H, W, 3) uint8 RGB, any N, H and W.
    """
    size_NHW = images_NHWC.shape[:3]
    prediction = Prediction(np.empty(size_NHW, np.uint8), np.empty(size_NHW, np.float32))
    for piece in predictor.predict(images_NHWC):
        prediction.masks_NHW[piece.place] = most_likely(piece.logits_NCHW).to(torch.uint8).cpu().numpy()
        prediction.confidences_NHW[piece.place] = piece.probabilities_NCHW.amax(dim=1).cpu().numpy()
    return prediction
