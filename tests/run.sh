#!/usr/bin/env bash
# Installs what is missing and runs linters, the type checker, the import contract and all tests.
# Arguments go to pytest: ./tests/run.sh -k respd
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source examples/environment.sh
prepare_environment "[dev]"
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
step() { echo "== $1"; shift; "$@"; }
step "ruff check" ruff check .
step "ruff format" ruff format --check .
step "mypy" mypy
step "import contract" lint-imports
pytest=(python -m pytest -n "${CRKD_TEST_PROCESSES:-2}" --dist worksteal)
if [ $# -eq 0 ]; then
    # Counting lines slows tests, so that only those of models and losses are counted, and only while their own tests run.
    counted=(tests/unit/models tests/unit/distillation)
    step "pytest, models and losses" "${pytest[@]}" --cov "${counted[@]}"
    step "pytest, the rest" "${pytest[@]}" "${counted[@]/#/--ignore=}"
else
    step "pytest" "${pytest[@]}" "$@"
fi
