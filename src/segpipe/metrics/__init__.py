"""One file a metric, each with a function `compute` and an `ABOUT`.

    compute(evidence) -> float, or a float64 array (num_classes,) of a metric per class

`ABOUT` names the metric to people, and the evidence that it is computed from: a file of `evidence/`, which counts
something in each image. `evidence` is an array (num_images, ...): that of one image scores the image, that of a split
the split, never as a mean over batches or images, whose value would depend on how the split is cut. NaN says that
nothing can be said.

`evaluate` collects the evidence that the metrics ask for; the report, the pages, MLflow and `metrics.json` hold every
metric under its file's name. What metrics share lies in `parts/`. Numpy only, except in `evidence/`, so that a
comparison of models needs no torch.
"""
