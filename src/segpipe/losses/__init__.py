"""One file a loss, each with a function `build_loss`.

    build_loss(*, class_weights, OPTION=DEFAULT, ...) -> Loss

A `Loss` (`parts/weighted_sum.py`) is two functions: `weigh` gives the weights of a target's items, `cost` the costs of
these items. Called with logits and a target it gives a sum and a weight, sum_k w_k c_k and sum_k w_k; the loss of a
batch is the one divided by the other. An item is whatever the loss is a mean over: a pixel, a class, an image.

The weights follow from the target alone. So a step that takes several micro batches m knows its whole weight before the
network sees the first, and minimises sum_m sum_k w_mk c_mk / sum_m sum_k w_mk. Where the items are pixels or images,
that is the loss of the same images in one batch, wherever the void lies: 4 micro batches of 2 have the gradient of a
batch of 8. Where an item takes all pixels of a batch together (Dice, Tversky, Lovasz-softmax without `per_image`, hard
pixels), it takes those of its micro batch, and the step is the weighted mean of these items; such a loss says so.

`class_weights` is a float32 tensor (num_classes,); targets are int64 class indices, void = 255. A batch without one
labelled pixel has a sum of zero, a weight of zero and zero gradients, never NaN. Logits of 16 bits are computed with in
float32; the loss is then float32, else of the logits' dtype.

Every sum over pixels is an elementwise product and `sum()`. Gathers back into classes and torch's own weighted means
have kernels on CUDA whose result depends on timing. What losses share lies in `parts/`.
"""
