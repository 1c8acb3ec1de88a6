# Sourced by the scripts: makes .venv in the checkout and installs the project with pinned versions, once.
# Usage: prepare_environment EXTRAS   (for instance "" or "[dev]"); afterwards $VENV/bin holds python and crkd.

prepare_environment() {
    local root extras stamp wanted
    root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
    extras="$1"
    VENV="${CRKD_VENV:-$root/.venv}"
    stamp="$VENV/.installed-from"
    wanted="$(cat "$root/pyproject.toml" "$root/constraints.txt" | sha256sum | cut -c1-64)"
    if [ ! -x "$VENV/bin/python" ]; then
        echo "Making a virtual environment in $VENV ..."
        "${PYTHON:-python3}" -m venv "$VENV"
    fi
    # An environment with [dev] serves both scripts.
    if ! grep -qsF "$wanted $extras" "$stamp"; then
        echo "Installing crkd$extras with pinned versions ..."
        "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check \
            --constraint "$root/constraints.txt" --editable "$root$extras"
        echo "$wanted $extras" >>"$stamp"
        [ -z "$extras" ] || echo "$wanted " >>"$stamp"
    fi
    export PATH="$VENV/bin:$PATH"
}

# What examples that run all stages share: one folder for the world and the workspace, and commands shown as they run.
# Usage: work_in FOLDER
work_in() {
    folder="$1"
    mkdir -p "$folder"
    export CRKD_WORKSPACE="$folder/workspace"
    # Layers of this size are too small to be worth two threads; the other core simulates, loads or trains another model.
    export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
}

run() { printf '\n$ %s\n' "$*"; "$@"; }
