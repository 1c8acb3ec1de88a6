# Sourced by the scripts: makes .venv in the checkout and installs the project with pinned versions, once.
# Usage: prepare_environment EXTRAS   (for instance "" or "[dev]"); afterwards $VENV/bin holds python and crkd.

prepare_environment() {
    local root extras stamp pins installed
    root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
    extras="$1"
    VENV="${CRKD_VENV:-$root/.venv}"
    stamp="$VENV/.installed-from"
    if [ ! -x "$VENV/bin/python" ]; then
        echo "Making a virtual environment in $VENV ..."
        "${PYTHON:-python3}" -m venv "$VENV"
    fi
    case "$("$VENV/bin/python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')" in
        3.10) pins=/dev/null ;; # the newest versions that still run there
        3.11 | 3.12) pins="$root/constraints.txt" ;;
        *) pins="$root/constraints-newest.txt" ;;
    esac
    installed="$(cat "$root/pyproject.toml" "$pins" | sha256sum | cut -c1-64)"
    # An environment with [dev] serves both scripts.
    if ! grep -qsF "$installed $extras" "$stamp"; then
        echo "Installing crkd$extras with pinned versions ..."
        "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check \
            --constraint "$pins" --editable "$root$extras"
        echo "$installed $extras" >>"$stamp"
        [ -z "$extras" ] || echo "$installed " >>"$stamp"
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

# Commands side by side, one a core: start COMMAND ..., as often as there are cores, then finish. They end with the script.
started=()
start() {
    printf '\n$ %s &\n' "$*" >&2
    "$@" &
    started+=($!)
}
finish() {
    local process
    for process in "${started[@]}"; do wait "$process"; done
    started=()
}
trap '[ "${#started[@]}" -eq 0 ] || kill "${started[@]}" 2>/dev/null || true' EXIT
