#!/usr/bin/env bash
# Runs the tests on every CPython of 3.10 to 3.14 that is on PATH or among pyenv's, each in its own .venv-3.X, and
# compares the digests of what must not depend on the installed versions. Ends with one line for each Python.
#
#   ./tests/run_pythons.sh [3.X ...] [-- ARGUMENTS OF PYTEST]
#
# From 3.13 on the devkit is no dependency: the tests run without it first, then those that compare with it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source examples/environment.sh
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"

versions=()
while [ $# -gt 0 ] && [ "$1" != "--" ]; do versions+=("$1") && shift; done
[ $# -eq 0 ] || shift
named=${#versions[@]}
[ "$named" -gt 0 ] || versions=(3.10 3.11 3.12 3.13 3.14)
scratch="$(mktemp -d)"
trap 'rm -rf "$scratch"' EXIT

# The interpreter of a version; pyenv's command python3.X may be there and refuse to run.
interpreter() {
    local candidate
    for candidate in "python$1" "$(pyenv root 2>/dev/null || true)/versions/$1".*/bin/python; do
        if "$candidate" -c "import sys; sys.exit('%d.%d' % sys.version_info[:2] != '$1')" 2>/dev/null; then
            echo "$candidate" && return
        fi
    done
    return 1
}

installed() {
    python - <<'PYTHON'
import platform
from importlib.metadata import version

print(platform.python_version(), *(f"{name} {version(name)}" for name in ("numpy", "pyarrow", "torch")), sep=", ")
PYTHON
}

run_pytest() { python -m pytest -n "${CRKD_TEST_PROCESSES:-2}" --dist worksteal "$@" | tee "$scratch/output"; }

outcome() { tail -n 1 "$scratch/output" | tr -d '=' | sed 's/ in [0-9.]*s.*//; s/^ *//'; }

# Usage: test_python 3.X INTERPRETER ARGUMENTS OF PYTEST; in a subshell, as it changes PATH.
test_python() {
    local version="$1" failed=0 result command
    CRKD_VENV="$PWD/.venv-$version" PYTHON="$2"
    shift 2
    prepare_environment "[dev]" || return
    echo "== Python $(installed)"
    python -m tests.support.digests | tee "$scratch/$version.digests" || return
    run_pytest "$@" || failed=1
    result="$(outcome)"
    if ! python -c "import nuscenes" 2>/dev/null; then
        command="$(python -c 'from crkd_core.evaluation.nuscenes import official; print(official.DEVKIT_INSTALL)')"
        echo "== $command"
        bash -c "$command" >/dev/null || return
        run_pytest "$@" -m devkit || failed=1
        result="$result; with the devkit $(outcome)"
        pip uninstall --quiet --yes nuscenes-devkit
    fi
    echo "Python $(installed): $result" >>"$scratch/summary"
    return "$failed"
}

status=0
for version in "${versions[@]}"; do
    if python="$(interpreter "$version")"; then
        (test_python "$version" "$python" "$@") || status=1
    elif [ "$named" -gt 0 ]; then
        echo "Python $version: not there" >>"$scratch/summary"
        status=1
    fi
done

echo "== summary"
cat "$scratch/summary"
first=""
for digests in "$scratch"/*.digests; do
    first="${first:-$digests}"
    if ! diff "$first" "$digests"; then
        echo "Python $(basename "$digests" .digests) computes other values than $(basename "$first" .digests)."
        status=1
    fi
done
[ "$status" -ne 0 ] || echo "The digests are equal."
exit "$status"
