"""Median frequency balancing."""

import numpy as np
import numpy.typing as npt


def compute_weights(*, num_px: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Gives w_c = median(f) / f_c, where f_c is the share of class c of the pixels of the images in which it occurs.

    A class that is rare because it occurs in few images weighs less than one that is small wherever it occurs.

    Source: Eigen, Fergus, "Predicting depth, surface normals and semantic labels with a common multi-scale
    convolutional architecture", ICCV 2015, section 6.3.2; SegNet uses it on CamVid.
    Void pixels are not counted in the size of an image here.

    Args:
        num_px: (num_samples, num_classes) pixels of each class in each training sample.
    """
    px_of_sample = num_px.sum(axis=1, keepdims=True)
    px_where_present = np.where(num_px > 0, px_of_sample, 0).sum(axis=0)
    frequency = num_px.sum(axis=0) / px_where_present
    return np.asarray(np.median(frequency) / frequency, np.float64)
