"""One file a class-weighting scheme, each with a function `compute_weights`.

    compute_weights(*, num_px, OPTION=DEFAULT, ...) -> weights

`num_px` is an int64 array (num_samples, num_classes): the labelled pixels of each class in each training sample; every
class occurs. The result is a float64 array (num_classes,) of positive weights. Only their ratios matter: the caller
caps and scales them (`segpipe.data.class_weights.class_weights`).
"""
