#!/usr/bin/env bash
# Each loss alone, all together, and the equal-epoch control, from one plain student.
# Needs a workspace with prepared data, a teacher and its targets (for instance after quickstart.sh).
set -euo pipefail

crkd distill --losses none
for losses in csrd msfd reld respd csrd,msfd,reld,respd; do
    crkd distill --losses "$losses" --name "only-${losses//,/-}"
done
crkd distill --losses none --init plain --name control
crkd evaluate --split val --all
