"""Confusion matrices: how many pixels of class i were predicted as class j."""

import torch


def collect(logits_NCHW: torch.Tensor, target_NHW: torch.Tensor) -> torch.Tensor:
    """Counts the pixels of each image, each predicted as its most likely class.

    Args:
        logits_NCHW: float.
        target_NHW: class indices, any integer type; void = 255.

    Returns:
        (N, C, C) int64 on the inputs' device; rows are truth, columns prediction.
    """
    # max instead of argmax: the same result, ten times as fast on the CPU.
    return confusion_matrices(logits_NCHW.max(dim=1).indices, target_NHW, num_classes=logits_NCHW.shape[1])


def confusion_matrices(prediction_NHW: torch.Tensor, target_NHW: torch.Tensor, num_classes: int) -> torch.Tensor:
    """Counts, for each image, how many pixels of class i were predicted as class j.

    Args:
        prediction_NHW: class indices 0..num_classes - 1, any integer type.
        target_NHW: class indices; pixels of any other value (void) are not counted.
        num_classes: size of the matrix.

    Returns:
        (N, num_classes, num_classes) int64 on the inputs' device; rows are truth, columns prediction.
    """
    # Void becomes one more row, which is cut off: to pick the labelled pixels takes longer than to count all. A count
    # of 8-bit numbers, where all pairs fit into them, takes half the time of another.
    num_pairs = (num_classes + 1) * num_classes
    dtype = torch.uint8 if num_pairs <= 1 << 8 else torch.int32
    rows = target_NHW.clamp(max=num_classes).to(dtype)
    pairs = rows * num_classes + prediction_NHW.to(dtype)
    counts = torch.stack([torch.bincount(pair.flatten(), minlength=num_pairs) for pair in pairs])
    return counts.view(-1, num_classes + 1, num_classes)[:, :num_classes]
