"""Time and memory of a training step in segpipe, compared with a plain one of the same network, loss and optimiser.

    python benchmarks/training_speed.py [MODEL ...] [--size H W] [--batch N] [--half] [--recompute PART ...]
        [--rounds N] [--device cuda]

segpipe: the step of the train stage: channels-last, freed memory kept, uint8 copied to the device and normalised there,
idle threads that sleep after a while, training mIoU counted; in float32, and with `train.precision: bf16`, on CUDA also
`tf32`. anywhere (CPU): the same in float32 with `train.deterministic: anywhere`.
Plain: torchvision's or smp's own network, or ours without activation checkpointing, in contiguous layout, glibc's
defaults, a float tensor made on the CPU as torchvision's `ToTensor` + `Normalize` do, OpenMP's defaults, torch's loss.
amp (CUDA): plain with fp16 and a scaled loss, as torchvision's reference loop has it.
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

from segpipe.inference.instructions import LIMITS

NUM_CLASSES, NUM_THREADS = 11, 2
AUXILIARY_WEIGHT = 0.4
NUM_WARMUP = 1
PRECISIONS = {"segpipe": "float32", "anywhere": "float32", "bf16": "bf16", "tf32": "tf32"}
STYLES = ("segpipe", "anywhere", "bf16", "plain")
CUDA_STYLES = ("segpipe", "bf16", "tf32", "amp", "plain")
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
    if style == "anywhere":
        os.environ.update(LIMITS)  # before torch is loaded
    if style in PRECISIONS:
        step = begin(PRECISIONS[style], model_name, options)
    else:
        step = begin_plainly(model_name, options, is_amp=style == "amp")
    import torch

    seconds = []
    for _ in range(NUM_WARMUP + options.steps):
        started = time.perf_counter()
        step()
        if options.device != "cpu":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    on_cpu = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    num_bytes = torch.cuda.max_memory_allocated() if options.device != "cpu" else on_cpu
    return {"seconds": statistics.median(seconds[NUM_WARMUP:]), "bytes": num_bytes}


def begin(precision: str, model_name: str, options: argparse.Namespace) -> Callable[[], object]:
    """Gives a step as the train stage takes it, its training mIoU included."""
    import torch

    import segpipe.stages  # noqa: F401  # sets OpenMP's variables before torch is loaded
    from segpipe.config.train import LossTerm
    from segpipe.inference.device import keep_freed_memory, make_repeatable
    from segpipe.inference.network import build_network
    from segpipe.models.parts.checkpointing import always_checkpointed
    from segpipe.training.meter import Meter
    from segpipe.training.objective import make_objective
    from segpipe.training.precision import Precision
    from segpipe.training.prefetch import send_ahead
    from segpipe.training.state import Progress, TrainState
    from segpipe.training.step import add_gradients, take_step

    device = torch.device(options.device)
    objective = make_objective([LossTerm(name="cross_entropy")], AUXILIARY_WEIGHT, torch.ones(NUM_CLASSES).to(device))
    keep_freed_memory()
    make_repeatable(0, NUM_THREADS)
    module = build_network(model_name, OPTIONS.get(model_name, {}), NUM_CLASSES).to(device).train()
    for part in options.recompute:
        always_checkpointed(module.get_submodule(part))
    optimizer = torch.optim.AdamW(module.parameters(), fused=True)
    schedule = torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0)
    state = TrainState(module, optimizer, schedule, precision=Precision.of(precision, device))
    meter = Meter(NUM_CLASSES, Progress(), device)
    batch = images_and_masks(options)

    def step() -> None:
        batches = list(send_ahead([batch], device))
        add_gradients(state, objective, batches, options.half, meter.observe)
        take_step(state, None)

    return step


def begin_plainly(model_name: str, options: argparse.Namespace, is_amp: bool) -> Callable[[], object]:
    """Gives a step as torchvision's references write it, with their `--amp` or without."""
    import torch
    from torch.nn import functional as F

    from segpipe.inference.logits import MEAN_RGB, STD_RGB

    torch.set_num_threads(NUM_THREADS)
    module = build_plainly(model_name).to(options.device).train()
    optimizer = torch.optim.AdamW(module.parameters())
    scaler = torch.amp.GradScaler(options.device, enabled=is_amp)
    images, masks = images_and_masks(options)
    target = torch.from_numpy(masks).long().to(options.device)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) / 255 for values in (MEAN_RGB, STD_RGB))

    def step() -> None:
        batch = (torch.from_numpy(images).permute(0, 3, 1, 2).contiguous().float() / 255 - mean) / std
        batch, goal = batch.to(options.device), target
        if options.half:
            batch, goal = F.avg_pool2d(batch, 2), goal[:, ::2, ::2]
        optimizer.zero_grad()
        with torch.autocast(torch.device(options.device).type, torch.float16, enabled=is_amp):
            loss = lose_plainly(module(batch), goal)[0]
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()

    return step


def images_and_masks(options: argparse.Namespace) -> tuple[Any, Any]:
    """Gives random images (N, H, W, 3) and masks (N, H, W), uint8."""
    import numpy as np

    rng = np.random.default_rng(0)
    shape = (options.batch, *options.size)
    return rng.integers(0, 256, (*shape, 3), np.uint8), rng.integers(0, NUM_CLASSES, shape, np.uint8)


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
    parser.add_argument("--half", action="store_true", help="halves images and masks first")
    parser.add_argument("--recompute", nargs="+", default=[], metavar="PART", help="as train.recompute, not in plain")
    parser.add_argument("--steps", type=int, default=5, help="timed in each process (default 5)")
    parser.add_argument("--rounds", type=int, default=3, help="processes of each style (default 3)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--style", choices=sorted({*STYLES, *CUDA_STYLES}), help="measures one model in this process alone"
    )
    options = parser.parse_args()
    if options.style:
        print(json.dumps(measure(options.style, options.models[0], options)))
        return
    size = f"{options.size[0]}x{options.size[1]}{', halved' if options.half else ''}"
    print(
        f"batch {options.batch}, {size}, {options.device}, {NUM_THREADS} threads, median of {options.rounds} processes"
        "; in brackets the ratio to plain"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    for model_name in options.models:
        styles = STYLES if options.device == "cpu" else CUDA_STYLES
        found: dict[str, list[dict[str, float]]] = {style: [] for style in styles}
        for _ in range(options.rounds):
            for style, values in found.items():
                command = [sys.executable, __file__, model_name, "--style", style, *_repeat(options)]
                done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
                values.append(json.loads(done.stdout))
        seconds, sizes = (
            {style: statistics.median(run[key] for run in runs) for style, runs in found.items()}
            for key in ("seconds", "bytes")
        )
        columns = [
            f"{style} {seconds[style]:7.3f} s ({seconds[style] / seconds['plain']:.2f}) {sizes[style] / 1e9:5.2f} GB"
            for style in styles
        ]
        print(f"{model_name:26s} {'   '.join(columns)}", flush=True)


def _repeat(options: argparse.Namespace) -> list[str]:
    """Gives the options for another process of this script."""
    half = ["--half"] if options.half else []
    numbers = ["--batch", str(options.batch), "--steps", str(options.steps), "--device", options.device]
    parts = ["--recompute", *options.recompute] if options.recompute else []
    return [*numbers, "--size", *map(str, options.size), *half, *parts]


if __name__ == "__main__":
    main()
