"""One file a loss, each with a function `build_loss`.

    build_loss(*, class_weights, OPTION=DEFAULT, ...) -> Callable[[logits_NCHW, target_NHW], scalar]

`class_weights` is a float32 tensor (num_classes,); targets are int64 class indices, void = 255. A batch without one
labelled pixel gives a loss of zero with zero gradients, never NaN. Logits of 16 bits are computed with in float32; the
loss is then float32, else of the logits' dtype.

Every sum over pixels is an elementwise product and `sum()`. Gathers back into classes and torch's own weighted means
have kernels on CUDA whose result depends on timing. What losses share lies in `parts/`.
"""
