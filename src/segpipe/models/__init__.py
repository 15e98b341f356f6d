"""One file a model, each with a function `build_model`.

    build_model(*, num_classes, OPTION=DEFAULT, ...) -> torch.nn.Module

The module takes float32 images (N, 3, H, W), normalised, of any H and W from 32 px up, and gives logits
(N, num_classes, H, W).
"""

from segpipe.registry import MODELS

list_models = MODELS.names
