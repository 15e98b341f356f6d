"""One file for each metric, each with a function `compute` and an `ABOUT`.

    compute(evidence) -> float, or a float64 array (num_classes,) for a metric per class

`ABOUT` has the metric's label and its kind of evidence: a file of `evidence/` that counts something in each image.
`evidence` is an array (num_images, ...): the evidence of one image gives the score of the image, that of a split the
score of the split. A score is never a mean over batches or images, because that would depend on how the split is cut.
NaN means that there is no value.

`evaluate` collects the evidence that the metrics need. The report, the pages, MLflow and `metrics.json` hold every
metric under its file's name. Shared code of the metrics is in `parts/`. All of it except `evidence/` uses numpy only,
so a comparison of models needs no torch.
"""
