#!/usr/bin/env bash
# Makes the models that come with crkd (crkd_core/weights/shipped) from nothing: teacher and plain student of the ladder's
# recipe on a simulated world of its own, and the plain student after a third of its training, with which quickstart.sh begins;
# in half precision with manifests, and what rounding costs them. Many hours on two CPU cores, nearly all of them the teacher's;
# stop it at any time and run it again to continue.
#
# Usage: ./examples/shipped_weights.sh [FOLDER [--set SECTION.FIELD=VALUE ...]]     (default ./shipped-weights)
# SHIPPED_SCENES, SHIPPED_VAL_SCENES: scenes to train and to score with (192 and 64). A quick look at all of it:
#     SHIPPED_SCENES=2 SHIPPED_VAL_SCENES=2 ./examples/shipped_weights.sh look --set train.teacher.epochs=1 --set train.student.epochs=1
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
source "$here/examples/environment.sh"
prepare_environment ""
work_in "${1:-$PWD/shipped-weights}"
settings=(--preset tiny --config "$here/examples/ladder.yaml" --set train.teacher.epochs=16 --set train.student.epochs=6 "${@:2}")
revision="$(git -C "$here" rev-parse HEAD 2>/dev/null || echo unknown)"

# Its seed is nobody else's: quickstart.sh and crkd demo make other worlds, so that these models have seen none of theirs.
run crkd simulate --out "$folder/world" --size tiny --seed 1000 --scenes "${SHIPPED_SCENES:-192}" \
    --val-scenes "${SHIPPED_VAL_SCENES:-64}" --set lidar_sweeps_per_key_frame=9 --set lead_in=true --processes 2
run crkd prepare --nuscenes "$folder/world"
start crkd distill "${settings[@]}" --losses none --quiet
start crkd train-teacher "${settings[@]}"
finish
run crkd distill "${settings[@]}" --set train.student.epochs=2 --losses none --name plain-begun
run crkd evaluate --split val --model teacher --model plain --model plain-begun
# The manifests tell those scores. What is written is read back and scored too: half precision must cost next to nothing.
export=(crkd export-weights --format shared --revision "$revision" --force)
models="$folder/shipped/simulated-tiny"
run "${export[@]}" teacher --out "$models-teacher.safetensors"
run "${export[@]}" plain --out "$models-student.safetensors"
run "${export[@]}" plain-begun --out "$models-student-begun.safetensors"
run crkd import-weights "$models-teacher.safetensors" --as teacher --name rounded-teacher
run crkd import-weights "$models-student.safetensors" --as student --name rounded-plain
run crkd import-weights "$models-student-begun.safetensors" --as student --name rounded-begun
run crkd evaluate --split val --model teacher --model rounded-teacher --model plain --model rounded-plain \
    --model plain-begun --model rounded-begun

printf '\n%s\n' "To ship them: cp $folder/shipped/simulated-tiny-* $here/crkd_core/weights/shipped/"
du -ch "$folder"/shipped/* | tail -1
