#!/usr/bin/env bash
# Does distillation help? The ends of the paper's ladder on a simulated world, three seeds, with the equal-epoch control: the
# table of findings/simulated_world.md. About six hours on two CPU cores, half of them the teacher's; stop it at any time and run it again to continue.
#
# Usage: ./examples/ladder.sh [FOLDER [--set SECTION.FIELD=VALUE ...]]     (default ./ladder; settings go to every stage)
# LADDER_SCENES: scenes to train and to validate with (96). A quick look at all of it:
#     LADDER_SCENES=2 ./examples/ladder.sh look --set train.teacher.epochs=1 --set train.student.epochs=1 --set train.distill.epochs=1
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
source "$here/examples/environment.sh"
prepare_environment ""
work_in "${1:-$PWD/ladder}"
recipe=(--preset tiny --config "$here/examples/ladder.yaml")
settings=("${recipe[@]}" "${@:2}")
scenes="${LADDER_SCENES:-96}"

run crkd simulate --out "$folder/world" --size tiny --scenes "$scenes" --val-scenes "$scenes" \
    --set lidar_sweeps_per_key_frame=9 --set lead_in=true --processes 2
run crkd prepare --nuscenes "$folder/world"
run crkd train-teacher "${settings[@]}" --name teacher-begun
run crkd train-teacher "${recipe[@]}" --set train.teacher.epochs=16 "${@:2}" --init teacher-begun --name teacher
run crkd extract-teacher "${settings[@]}" --teacher teacher --processes 2
run crkd evaluate --split val --model teacher
# Seeds are independent: side by side, each of them an ordinary ablation whose students the last command finds finished.
# What goes on from a plain student counts small errors of velocity five times as much; before, that costs objects.
ablate=(crkd ablate "${settings[@]}" --set-after student.head.velocity_beta_mps=2 --comparison summary)
for seed in 0 1 2; do
    run "${ablate[@]}" --seeds "$seed" --name "summary-s$seed" --quiet &
    seeds[seed]=$!
done
for process in "${seeds[@]}"; do wait "$process"; done
run "${ablate[@]}" --seeds 0,1,2
