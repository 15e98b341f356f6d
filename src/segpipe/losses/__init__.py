"""One file a loss, each with a function `build_loss`.

    build_loss(*, class_weights, OPTION=DEFAULT, ...) -> Callable[[logits_NCHW, target_NHW], scalar]

`class_weights` is a float32 tensor (num_classes,); targets are int64 class indices, void = 255. A batch without one
labelled pixel gives a loss of zero with zero gradients, never NaN.
"""
