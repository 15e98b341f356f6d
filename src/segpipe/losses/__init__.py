"""One file for each loss, each with a function `build_loss`.

    build_loss(*, class_weights, OPTION=DEFAULT, ...) -> Loss

A `Loss` (`parts/weighted_sum.py`) is two functions: `weigh` gives the weights of a target's items, `cost` the costs of
these items. Called with logits and a target, a loss gives the sum sum_k w_k c_k and the weight sum_k w_k; the loss of a
batch is sum / weight. A loss is a mean over its items: pixels, classes or images.

The weights depend on the target alone. So the total weight of a step with several micro batches m is known before the
first forward pass, and the step minimises sum_m sum_k w_mk c_mk / sum_m sum_k w_mk. If the items are pixels or images,
this is the loss of the same images in one batch, for any void pixels: 4 micro batches of 2 have the gradient of a batch
of 8. Some losses compute an item from all pixels of a batch (Dice, Tversky, Lovasz-softmax without `per_image`, hard
pixels). Then an item uses the pixels of its micro batch, and the step is the weighted mean of these items; the
docstring of such a loss says so.

`class_weights` is a float32 tensor (num_classes,); targets are int64 class indices, void = 255. A batch without a
labelled pixel has a sum of zero, a weight of zero and zero gradients, never NaN. Logits of 16 bits are converted to
float32, and the loss is float32; otherwise the loss has the logits' dtype.

Every sum over pixels is an elementwise product and `sum()`. Scattering into classes and torch's own weighted means have
kernels on CUDA whose result depends on timing. Shared code of the losses is in `parts/`.
"""
