"""One file for each metric, each with a function `compute` and an `ABOUT`.

    compute(evidence) -> float, or a float64 array (num_classes,) for a metric per class

`ABOUT` has the metric's label and its kind of evidence: a file of `evidence/` that counts something in each image.
`evidence` is a sparse table of the counts of each image (`parts/image_counts.py`): the evidence of one image gives the
score of the image, that of a split the score of the split. A score is never a mean over batches, because that would
depend on how the split is cut; only the boundary F1 is a mean over images, as its sources define it. NaN means that
there is no value.

`evaluate` collects the evidence that the metrics need. The report, the pages, MLflow and `metrics.json` hold every
metric under its file's name. What is not one number, or one a class, is a table: a file of `tables/`. Shared code is in
`parts/`. Nothing here needs torch, so a comparison of models does not either.
"""
