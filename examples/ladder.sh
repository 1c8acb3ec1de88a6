#!/usr/bin/env bash
# Does distillation help? The ends of the paper's ladder on a simulated world, three seeds, with the equal-epoch control: the
# rows of `ladder.yaml` in the README's table. About five hours on two CPU cores, most of them the teacher's; stop it at any
# time and run it again to continue.
#
# Usage: ./examples/ladder.sh [FOLDER [--set SECTION.FIELD=VALUE ...]]     (default ./ladder; settings go to every stage)
# LADDER_SCENES: scenes to train and to validate with (96). A quick look at all of it:
#     LADDER_SCENES=2 ./examples/ladder.sh look --set train.teacher.epochs=1 --set train.student.epochs=1 --set train.distill.epochs=1
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
source "$here/examples/environment.sh"
prepare_environment ""
work_in "${1:-$PWD/ladder}"
settings=(--preset tiny --config "$here/examples/ladder.yaml" "${@:2}")
scenes="${LADDER_SCENES:-96}"

run crkd simulate --out "$folder/world" --size tiny --scenes "$scenes" --val-scenes "$scenes" \
    --set lidar_sweeps_per_key_frame=9 --set lead_in=true --processes 2
run crkd prepare --nuscenes "$folder/world"
run crkd train-teacher "${settings[@]}"
run crkd extract-teacher "${settings[@]}" --processes 2
run crkd evaluate --split val --model teacher
# Seeds are independent: side by side, each of them an ordinary ablation whose students the last command finds finished.
ablate=(crkd ablate "${settings[@]}" --comparison summary)
for seed in 0 1 2; do
    run "${ablate[@]}" --seeds "$seed" --name "summary-s$seed" --quiet &
    seeds[seed]=$!
done
for process in "${seeds[@]}"; do wait "$process"; done
run "${ablate[@]}" --seeds 0,1,2
