"""Training steps a second: as segpipe runs them, against the same network, loss and optimiser written plainly.

segpipe: channels-last, freed memory kept, uint8 handed over and normalised on the device, idle threads that sleep.
Plain: contiguous layout, glibc's defaults, a float tensor made on the CPU as torchvision's `ToTensor` + `Normalize` do,
OpenMP's defaults. Both in processes of their own, in turn; the figure is the ratio of the medians.
"""

import os
import statistics
import subprocess
import sys
import time

BATCH, HEIGHT, WIDTH, NUM_CLASSES, NUM_THREADS = 8, 192, 256, 11, 2
NUM_ROUNDS, NUM_WARMUP, NUM_STEPS = 5, 3, 10
MODELS = ("compact_fpn", "lraspp_mobilenet_v3_large")


def measure(style: str, model_name: str) -> float:
    """Gives the images a second of one process."""
    if style == "segpipe":
        import segpipe.stages  # noqa: F401  # sets OpenMP's wait policy before torch is loaded
    import numpy as np
    import torch
    from torch.nn import functional as F

    from segpipe.engine.device import keep_freed_memory, make_repeatable
    from segpipe.engine.network import MEAN_RGB, STD_RGB, build_network, to_input
    from segpipe.registry import LOSSES, MODELS

    if style == "segpipe":
        keep_freed_memory()
        make_repeatable(0, NUM_THREADS)
        module = build_network(model_name, {}, NUM_CLASSES)
        loss = LOSSES.call("cross_entropy", class_weights=torch.ones(NUM_CLASSES))
    else:
        torch.set_num_threads(NUM_THREADS)
        module = MODELS.call(model_name, num_classes=NUM_CLASSES)
        loss = lambda logits, target: F.cross_entropy(logits, target, ignore_index=255)  # noqa: E731
    optimizer = torch.optim.AdamW(module.parameters())
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (BATCH, HEIGHT, WIDTH, 3), np.uint8)
    target = torch.from_numpy(rng.integers(0, NUM_CLASSES, (BATCH, HEIGHT, WIDTH)))
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) / 255 for values in (MEAN_RGB, STD_RGB))
    seconds = []
    for _ in range(NUM_WARMUP + NUM_STEPS):
        started = time.perf_counter()
        if style == "segpipe":
            batch = to_input(images, torch.device("cpu"))
        else:
            batch = (torch.from_numpy(images).permute(0, 3, 1, 2).contiguous().float() / 255 - mean) / std
        optimizer.zero_grad()
        value = loss(module(batch), target)
        value.backward()
        optimizer.step()
        seconds.append(time.perf_counter() - started)
    return BATCH / statistics.median(seconds[NUM_WARMUP:])


def main() -> None:
    """Prints the medians and their ratio for each model."""
    print(f"images/s, batch {BATCH}, {HEIGHT}x{WIDTH}, {NUM_THREADS} threads, median of {NUM_ROUNDS} processes each")
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    for model_name in MODELS:
        figures: dict[str, list[float]] = {"segpipe": [], "plain": []}
        for _ in range(NUM_ROUNDS):
            for style, values in figures.items():
                command = [sys.executable, __file__, style, model_name]
                done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
                values.append(float(done.stdout))
        ours, plain = (statistics.median(figures[style]) for style in ("segpipe", "plain"))
        print(f"{model_name:28s} segpipe {ours:6.1f}   plain {plain:6.1f}   ratio {ours / plain:.2f}")


if __name__ == "__main__":
    if len(sys.argv) == 3:
        print(measure(*sys.argv[1:]))
    else:
        main()
