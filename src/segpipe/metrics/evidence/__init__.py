"""What metrics are computed from, counted in each image: one file for each kind, with `AXES` and a function `collect`.

    AXES: names of the axes of an image's table
    collect(prediction, target_NHW) -> ImageCounts of the N images

`prediction` hands over the predicted classes and, if the file says `NEEDS_CONFIDENCE = True`, their probabilities;
`target_NHW` is (N, H, W) uint8, class indices, void = 255. Images are whole here, also those that were predicted in
pieces. `evaluate` writes each kind as `build/evaluation/evidence/KIND.parquet`. Only numpy, OpenCV and scipy are used.
"""
