"""Running a case file to a result, whatever happens."""

from dataclasses import dataclass
from lzma import LZMAError
from pathlib import Path

from tests.parity.cases import GoldenCase, case_name, read_case
from tests.parity.comparison import Comparison
from tests.parity.kinds import find_runner


@dataclass(frozen=True)
class Result:
    """Outcome of one case.

    Attributes:
        problems: why it fails, empty if it passes.
        comparison: what was compared; None if the case could not be run.
    """

    name: str
    problems: list[str]
    comparison: Comparison | None

    @property
    def passed(self) -> bool:
        return not self.problems

    @property
    def left_out(self) -> bool:
        """Passed because a declared rule leaves out the whole case."""
        return self.passed and self.comparison is not None and self.comparison.left_out


def run_path(path: Path) -> Result:
    """Run the case of a file."""
    try:
        case = read_case(path)
    except (OSError, ValueError, KeyError, LZMAError) as error:
        return Result(case_name(path), [f"cannot be read: {_sentence(error)}"], None)
    return run_case(case)


def run_case(case: GoldenCase) -> Result:
    """Run a case."""
    runner = find_runner(case)
    if runner is None:
        return Result(case.name, ["no runner for a case of this kind"], None)
    comparison = Comparison(case)
    try:
        runner(comparison)
    # A runner that stops for any reason fails its case and no other.
    except Exception as error:
        return Result(case.name, [f"the runner stopped: {_sentence(error)}", *comparison.problems], comparison)
    return Result(case.name, comparison.problems, comparison)


def _sentence(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]
