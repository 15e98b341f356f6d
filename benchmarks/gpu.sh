#!/bin/sh
# What a GPU is measured by, in at most ten minutes, in one table. Run it in a clone after `make setup`:
#
#     benchmarks/gpu.sh
#
# Steps of three networks in float32, tf32 and bf16, against a plain float32 loop and against torchvision's reference
# loop with --amp.
set -eu
. .venv/bin/activate
python -c 'import sys, torch; sys.exit(0 if torch.cuda.is_available() else "benchmarks/gpu.sh: this machine has no CUDA GPU")'
nvidia-smi --query-gpu=name,driver_version,memory.total,power.limit --format=csv
python -c 'import torch; print("torch", torch.__version__, "CUDA", torch.version.cuda)'
step() {
    timeout 180 python benchmarks/training_speed.py "$@" --device cuda --rounds 1 --steps 10 || echo "no result: $*"
}
step fc_densenet103 --batch 4 --size 352 480
step unet_with_encoder --batch 8 --size 352 480
step deeplabv3plus --batch 8 --size 512 512
