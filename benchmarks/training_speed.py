"""Time and memory of a training step in segpipe, compared with a plain one of the same network, loss and optimiser.

    python benchmarks/training_speed.py [--size H W] [--batch N] [--rounds N] [--device cuda] [MODEL ...]

segpipe: channels-last, freed memory kept, uint8 copied to the device and normalised there, idle threads that sleep.
Plain: torchvision's or smp's own network, or ours without activation checkpointing, in contiguous layout, glibc's
defaults, a float tensor made on the CPU as torchvision's `ToTensor` + `Normalize` do, OpenMP's defaults, torch's loss.
Both run in separate processes, in turn. The figures are medians of the rounds. The memory is the process's peak,
libraries included (on CUDA: torch's peak there).
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

NUM_CLASSES, NUM_THREADS = 11, 2
AUXILIARY_WEIGHT = 0.4
NUM_WARMUP = 1
STYLES = ("segpipe", "plain")
# smp's networks have no auxiliary heads.
OPTIONS = {"pspnet": {"auxiliary": False}, "upernet": {"auxiliary": False}}
SMP: dict[str, tuple[str, dict[str, Any]]] = {
    "unet_with_encoder": ("Unet", {}),
    "unetplusplus": ("UnetPlusPlus", {}),
    "manet": ("MAnet", {}),
    "linknet": ("Linknet", {}),
    "fpn": ("FPN", {}),
    "pan": ("PAN", {}),
    "pspnet": ("PSPNet", {"encoder_depth": 5, "output_stride": 8, "upsampling": 8}),
    "deeplabv3plus": ("DeepLabV3Plus", {"encoder_output_stride": 16}),
    "upernet": ("UPerNet", {}),
    "segformer": ("Segformer", {"decoder_segmentation_channels": 768}),
    "dpt": ("DPT", {"encoder_name": "tu-deit_base_patch16_384", "dynamic_img_size": True}),
}
DEFAULT_MODELS = ("compact_fpn", "lraspp_mobilenet_v3_large")


def measure(style: str, model_name: str, options: argparse.Namespace) -> dict[str, float]:
    """Gives the median seconds of a step and the peak bytes of one process."""
    if style == "segpipe":
        import segpipe.stages  # noqa: F401  # sets OpenMP's wait policy before torch is loaded
    import numpy as np
    import torch

    from segpipe.config.train import LossTerm
    from segpipe.inference.device import keep_freed_memory, make_repeatable
    from segpipe.inference.logits import MEAN_RGB, STD_RGB, to_input
    from segpipe.inference.network import build_network
    from segpipe.training.objective import make_objective

    device = torch.device(options.device)
    weights = torch.ones(NUM_CLASSES, device=device)
    minimised: Callable[[Any, Any], tuple[Any, ...]] = lose_plainly
    if style == "segpipe":
        objective = make_objective([LossTerm(name="cross_entropy")], AUXILIARY_WEIGHT, weights)
        minimised = lambda outputs, target_NHW: objective.shares_of([target_NHW])[0].of_outputs(outputs)  # noqa: E731
        keep_freed_memory()
        make_repeatable(0, NUM_THREADS)
        module = build_network(model_name, OPTIONS.get(model_name, {}), NUM_CLASSES).to(device)
    else:
        torch.set_num_threads(NUM_THREADS)
        module = build_plainly(model_name).to(device)
    optimizer = torch.optim.AdamW(module.parameters())
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (options.batch, *options.size, 3), np.uint8)
    target = torch.from_numpy(rng.integers(0, NUM_CLASSES, (options.batch, *options.size))).to(device)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) / 255 for values in (MEAN_RGB, STD_RGB))
    seconds = []
    for _ in range(NUM_WARMUP + options.steps):
        started = time.perf_counter()
        if style == "segpipe":
            batch = to_input(images, device)
        else:
            batch = ((torch.from_numpy(images).permute(0, 3, 1, 2).contiguous().float() / 255 - mean) / std).to(device)
        optimizer.zero_grad()
        minimised(module(batch), target)[0].backward()
        optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    on_cpu = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    num_bytes = torch.cuda.max_memory_allocated() if device.type == "cuda" else on_cpu
    return {"seconds": statistics.median(seconds[NUM_WARMUP:]), "bytes": num_bytes}


def build_plainly(model_name: str) -> Any:
    """Builds the network as its library does; for our models, without activation checkpointing."""
    from segpipe.choices import MODELS
    from segpipe.models import read_card

    defaults = MODELS.function_of(model_name).__kwdefaults__ or {}
    source = read_card(model_name).source
    if source == "torchvision":
        from torchvision.models import get_model

        auxiliary = {"aux_loss": True} if defaults.get("auxiliary") else {}
        return get_model(model_name, weights=None, weights_backbone=None, num_classes=NUM_CLASSES, **auxiliary)
    if source == "smp":
        import segmentation_models_pytorch as smp

        class_name, options = SMP[model_name]
        encoder = options.get("encoder_name", defaults["encoder"])
        return getattr(smp, class_name)(
            **{**options, "encoder_name": encoder}, encoder_weights=None, classes=NUM_CLASSES
        )
    options = {"checkpointing": False} if "checkpointing" in defaults else {}
    return MODELS.call(model_name, options, num_classes=NUM_CLASSES, in_channels=3, **_without_weights(model_name))


def _without_weights(model_name: str) -> dict[str, bool]:
    from segpipe.models import has_pretrained

    return {"pretrained": False} if has_pretrained(model_name) else {}


def lose_plainly(outputs: Any, target_NHW: Any) -> tuple[Any, ...]:
    """Gives the loss as torch's and torchvision's examples write it."""
    from torch.nn import functional as F

    if isinstance(outputs, dict):  # torchvision's
        outputs = tuple(outputs.values())
    main_NCHW, *others = outputs if isinstance(outputs, tuple) else (outputs,)
    loss = F.cross_entropy(main_NCHW, target_NHW, ignore_index=255)
    for other_NCHW in others:
        resized_NCHW = F.interpolate(other_NCHW, target_NHW.shape[-2:], mode="bilinear", align_corners=False)
        loss = loss + AUXILIARY_WEIGHT * F.cross_entropy(resized_NCHW, target_NHW, ignore_index=255)
    return (loss,)


def main() -> None:
    """Prints medians and ratios for each model."""
    parser = argparse.ArgumentParser(description="Time and memory of a training step.")
    parser.add_argument("models", nargs="*", default=DEFAULT_MODELS, help=f"default: {', '.join(DEFAULT_MODELS)}")
    parser.add_argument("--size", nargs=2, type=int, default=(352, 480), metavar=("H", "W"), help="default 352 480")
    parser.add_argument("--batch", type=int, default=2, help="default 2")
    parser.add_argument("--steps", type=int, default=5, help="timed in each process (default 5)")
    parser.add_argument("--rounds", type=int, default=3, help="processes of each style (default 3)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--style", choices=STYLES, help="measures one model in this process alone")
    options = parser.parse_args()
    if options.style:
        print(json.dumps(measure(options.style, options.models[0], options)))
        return
    shape = f"batch {options.batch}, {options.size[0]}x{options.size[1]}, {options.device}"
    print(f"{shape}, {NUM_THREADS} threads, median of {options.rounds} processes; ratio: segpipe to plain")
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    for model_name in options.models:
        found: dict[str, list[dict[str, float]]] = {style: [] for style in STYLES}
        for _ in range(options.rounds):
            for style, values in found.items():
                command = [sys.executable, __file__, model_name, "--style", style, "--batch", str(options.batch)]
                command += [
                    "--steps",
                    str(options.steps),
                    "--size",
                    *map(str, options.size),
                    "--device",
                    options.device,
                ]
                done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
                values.append(json.loads(done.stdout))
        seconds, sizes = (
            [statistics.median(run[key] for run in found[style]) for style in STYLES] for key in ("seconds", "bytes")
        )
        print(
            f"{model_name:30s} step {seconds[0]:7.3f} s  plain {seconds[1]:7.3f} s  ratio {seconds[0] / seconds[1]:.2f}"
            f"   peak {sizes[0] / 1e9:5.2f} GB  plain {sizes[1] / 1e9:5.2f} GB",
            flush=True,
        )


if __name__ == "__main__":
    main()
