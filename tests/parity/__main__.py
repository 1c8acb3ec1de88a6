"""``python -m tests.parity [DIR]``: compare recorded cases (of one folder), print a table, fail on any mismatch."""

import argparse
import os
import sys
import textwrap
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

from tests.parity.cases import case_name, case_paths, find_cases
from tests.parity.results import Result, run_path
from tests.parity.rules import RULES

_COLUMNS = ("case", "out abs", "out rel", "grad abs", "grad rel", "arrays", "", "rules")


def main(arguments: list[str] | None = None) -> int:
    """0: everything agrees; 1: something does not; 2: there is nothing to compare."""
    parser = argparse.ArgumentParser(prog="python -m tests.parity", description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, help="folder of cases instead of all that are there")
    parser.add_argument("--only", default="", metavar="TEXT", help="cases whose name contains this")
    parser.add_argument("--arrays", action="store_true", help="also print the difference of every array")
    options = parser.parse_args(arguments)
    there = case_paths().values() if options.folder is None else find_cases(options.folder)
    paths = [path for path in there if options.only in path.name]
    if not paths:
        print(f"no recorded cases in {options.folder or 'tests/parity/data'}", file=sys.stderr)
        return 2
    started = time.monotonic()
    width = max(len(case_name(path)) for path in paths)
    print(_line(width, *_COLUMNS))
    results = []
    for path in paths:
        result = run_path(path)
        print(_row(width, result), flush=True)
        if options.arrays:
            _print_arrays(result)
        results.append(result)
    _print_failures(results)
    _print_rules(results)
    failed = sum(not result.passed for result in results)
    left_out = sum(result.left_out for result in results)
    words = f"{len(results) - failed - left_out} of {len(results)} cases agree"
    words += f", {left_out} left out by a declared rule" if left_out else ""
    print(f"\n{words} ({time.monotonic() - started:.0f} s)")
    return 1 if failed else 0


def _line(width: int, name: str, *cells: str) -> str:
    out_abs, out_rel, grad_abs, grad_rel, arrays, outcome, rules = cells
    return (
        f"{name:{width}}  {out_abs:>8} {out_rel:>8}  {grad_abs:>8} {grad_rel:>8}  {arrays:>6}  {outcome:4}  {rules}"
    ).rstrip()


def _row(width: int, result: Result) -> str:
    outcome = "FAIL" if not result.passed else "out" if result.left_out else "pass"
    if result.comparison is None:
        return _line(width, result.name, "-", "-", "-", "-", "0", outcome, result.problems[0])
    numbers = []
    for gradients in (False, True):
        worst = result.comparison.worst(gradients)
        numbers += ["-", "-"] if worst is None else [f"{value:.1e}" for value in worst]
    count = str(len({difference.key for difference in result.comparison.differences}))
    return _line(width, result.name, *numbers, count, outcome, ", ".join(result.comparison.rules))


def _print_arrays(result: Result) -> None:
    for difference in result.comparison.differences if result.comparison else []:
        mark = " " if difference.agrees else "!"
        print(f"  {mark} {difference.absolute:8.1e} {difference.relative:8.1e}  {difference.key} {difference.reason}")


def _print_failures(results: list[Result]) -> None:
    for result in results:
        if not result.passed:
            print(f"\n{result.name}:")
            for problem in result.problems[:20]:
                print(f"  {problem}")
            if len(result.problems) > 20:
                print(f"  and {len(result.problems) - 20} more")


def _print_rules(results: list[Result]) -> None:
    used = {rule for result in results if result.comparison for rule in result.comparison.rules}
    if used:
        print("\nRules: where we differ from the published code on purpose, and what is done about it")
    for name, reason in RULES.items():
        if name in used:
            print(textwrap.fill(f"{name}: {reason}", 118, initial_indent="  ", subsequent_indent="      "))


if __name__ == "__main__":
    sys.exit(main())
