"""What is counted in each image, one file a kind, each with a function `collect`.

    collect(logits_NCHW, target_NHW) -> int64 or float64 tensor (N, ...)

`target_NHW` holds class indices, void = 255. The evidence of an image that is predicted in tiles is the sum of that of
its tiles.
"""
