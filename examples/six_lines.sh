#!/usr/bin/env bash
# A complete run on the real nuScenes. Usage: NUSCENES=/data GPUS=4 ./examples/six_lines.sh
set -euo pipefail
NUSCENES="${NUSCENES:?set NUSCENES to the folder that holds v1.0-trainval, samples and sweeps}"
GPUS="${GPUS:-4}"

crkd prepare --nuscenes "$NUSCENES"
crkd train-teacher --gpus "$GPUS"
crkd extract-teacher --gpus "$GPUS"
crkd distill --gpus "$GPUS"
crkd evaluate --split val
crkd visualize --split val
