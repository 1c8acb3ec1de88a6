#!/usr/bin/env bash
# Does distillation help? The ends of the paper's ladder on a simulated world, three seeds, with the equal-epoch control: the
# table in the README. About three hours on two CPU cores; stop it at any time and run it again to continue.
#
# Usage: ./examples/ladder.sh [FOLDER]     (default ./ladder)
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
source "$here/examples/environment.sh"
prepare_environment ""
work_in "${1:-$PWD/ladder}"
settings=(--preset tiny --config "$here/examples/ladder.yaml")

run crkd simulate --out "$folder/world" --size tiny --scenes 24 --val-scenes 96 --set lidar_sweeps_per_key_frame=9 --processes 2
run crkd prepare --nuscenes "$folder/world"
run crkd train-teacher "${settings[@]}"
run crkd extract-teacher "${settings[@]}"
run crkd evaluate --split val --model teacher
# Seeds are independent: side by side, each of them an ordinary ablation whose students the last command finds finished.
ablate=(crkd ablate "${settings[@]}" --comparison summary)
for seed in 0 1 2; do
    run "${ablate[@]}" --seeds "$seed" --name "summary-s$seed" --quiet &
    seeds[seed]=$!
done
for process in "${seeds[@]}"; do wait "$process"; done
run "${ablate[@]}" --seeds 0,1,2
