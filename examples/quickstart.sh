#!/usr/bin/env bash
# Does distillation help? What a user with published weights does, from nothing to a verdict and pictures: makes a virtual
# environment, installs crkd with pinned versions, simulates a world that no model was trained on, takes the teacher and a plain
# student of few epochs that come with crkd, and goes on from there, with and without the teacher. About eleven minutes on two CPU
# cores.
#
# Usage: ./examples/quickstart.sh [--from-scratch] [--seed N] [FOLDER [--set SECTION.FIELD=VALUE ...]]
#     FOLDER          default ./quickstart; run the same command again to continue after an interruption
#     --from-scratch  take no weights: train every model for a few hundred steps, about ten minutes; shows all commands, no gain
#     --seed N        of the world (QUICKSTART_SEED, else 3000; from scratch 0)
#     --set ...       goes to every stage that trains or extracts
# QUICKSTART_SCENES, QUICKSTART_VAL_SCENES, QUICKSTART_SAMPLES: scenes to train and to score with, and samples of each (96, 150
# and 2; from scratch 32, 8 and 5).
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
source "$here/examples/environment.sh"
scratch="" seed="${QUICKSTART_SEED:-}"
while [[ "${1:-}" == --* ]]; do
    case "$1" in
        --from-scratch) scratch=yes ;;
        --seed) shift && seed="${1:?--seed needs a number}" ;;
        *) echo "quickstart.sh knows --from-scratch and --seed N before the folder, found $1" >&2 && exit 2 ;;
    esac
    shift
done
prepare_environment ""
work_in "${1:-$PWD/quickstart}"

if [ -n "$scratch" ]; then
    settings=(--preset tiny "${@:2}")
    run crkd simulate --out "$folder/world" --size tiny --seed "${seed:-0}" --scenes "${QUICKSTART_SCENES:-32}" \
        --val-scenes "${QUICKSTART_VAL_SCENES:-8}" --samples "${QUICKSTART_SAMPLES:-5}" --processes 2
    run crkd prepare --nuscenes "$folder/world"
    run crkd train-teacher "${settings[@]}"
    run crkd extract-teacher "${settings[@]}"
    run crkd distill --losses none "${settings[@]}" # the plain student
    about="A few hundred steps each: a demonstration, no result."
else
    # The second stage of ladder.yaml, which comes with the weights, in a few minutes: half the epochs, on fewer samples and with
    # fewer views to extract; and a radar calibration that begins with the plain student's map, as so few epochs would not recover
    # from a step back. The student is one of two epochs: a finished one learns next to nothing more in minutes, however taught.
    settings=(--set train.distill.epochs=10 --set student.radar.calibration_residual=true
        --set distill.targets.views=2 --set student.head.velocity_beta_mps=2 "${@:2}")
    run crkd import-weights simulated-tiny-teacher --as teacher
    run crkd import-weights simulated-tiny-student-begun --as student # the plain student
    # Many short scenes: a second sample of the same objects tells little more of a difference than the first.
    run crkd simulate --out "$folder/world" --size tiny --seed "${seed:-3000}" --scenes "${QUICKSTART_SCENES:-96}" \
        --val-scenes "${QUICKSTART_VAL_SCENES:-150}" --samples "${QUICKSTART_SAMPLES:-2}" \
        --set lidar_sweeps_per_key_frame=9 --set lead_in=true --processes 2
    run crkd prepare --nuscenes "$folder/world"
    run crkd extract-teacher "${settings[@]}" --processes 2
    about="Teacher and plain student came with crkd and have not seen this world in training."
fi
# Side by side, one a core: the distilled student, and the same extra epochs without distillation. Both go on from the plain one.
start crkd distill "${settings[@]}" --quiet
run crkd distill "${settings[@]}" --losses none --init plain --name control
run crkd evaluate --split val --model teacher --model plain --quiet >/dev/null
finish
start crkd evaluate --split val --model control --quiet >/dev/null
run crkd evaluate --split val --model crkd >/dev/null
finish
run crkd evaluate --split val --model teacher --model plain --model control --model crkd | tee "$folder/scores.txt"
run crkd compare control crkd | tee "$folder/verdict.txt"
run crkd visualize --split val --model teacher --model plain --model control --model crkd | tee "$folder/pictures.txt"

printf '\n%s\n' "teacher: camera + LiDAR.  plain: camera + radar, as it starts.  control: the camera-radar baseline, trained on as
long as the distilled student.  crkd: the distilled student.  $about"
cat "$folder/scores.txt" "$folder/verdict.txt" "$folder/pictures.txt"
