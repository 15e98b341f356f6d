"""The counts of each image that metrics are computed from: one file for each kind, with a function `collect`.

    collect(logits_NCHW, target_NHW) -> int64 or float64 tensor (N, ...)

`target_NHW` holds class indices, void = 255. The evidence of an image that is predicted in tiles is the sum over its
tiles.
"""
