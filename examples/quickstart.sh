#!/usr/bin/env bash
# From nothing to a table and pictures: makes a virtual environment, installs crkd with pinned versions, simulates a
# small world and runs every stage on it with the real commands. About ten minutes on two CPU cores.
#
# Usage: ./examples/quickstart.sh [FOLDER]     (default ./quickstart; run it again to continue after an interruption)
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
source "$here/examples/environment.sh"
prepare_environment ""
work_in "${1:-$PWD/quickstart}"

run crkd simulate --out "$folder/world" --size tiny --processes 2
run crkd prepare --nuscenes "$folder/world"
run crkd train-teacher --preset tiny
run crkd extract-teacher
run crkd distill --losses none                                # the plain student
run crkd distill                                              # the distilled student, from the plain one
run crkd distill --losses none --init plain --name control    # the same extra epochs without distillation
run crkd evaluate --split val --model teacher --model plain --model control --model crkd | tee "$folder/scores.txt"
run crkd visualize --split val | tee "$folder/pictures.txt"

printf '\n%s %s\n' "teacher: camera + LiDAR.  plain: camera + radar, as it starts.  control: the camera-radar baseline, trained on as" \
    "long as the distilled student.  crkd: the distilled student.  A few hundred steps each: a demonstration, no result."
cat "$folder/scores.txt" "$folder/pictures.txt"
