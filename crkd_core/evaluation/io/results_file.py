"""Reading the nuScenes result file (submission JSON) of any detector, sample by sample.

A file of the whole validation split holds a million boxes; as Python objects all at once they would take several times
its size. Here one sample's boxes at a time become Python objects, and numbers in columns at once.
"""

import json
import mmap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from crkd_core.datasets.prepared.prepared_data import PreparedData
from crkd_core.errors import UsageError
from crkd_core.evaluation.io.detections import (
    RESULTS_SCHEMA,
    GlobalBoxes,
    as_fixed_lists,
    to_model_frame,
)
from crkd_core.evaluation.io.json_cursor import JSONCursor
from crkd_core.evaluation.io.result_boxes import KnownNames, box_columns, box_problem, kind_of
from crkd_core.progress import Progress

_EXPECTED = 'expected a nuScenes result file, {"meta": {...}, "results": {"SAMPLE TOKEN": [{box}, ...], ...}}'
_MODALITIES = ("camera", "lidar", "radar")


@dataclass(frozen=True)
class Results:
    """What a result file says.

    Attributes:
        table: rows of ``detections.RESULTS_SCHEMA``, a sample's together, highest score first.
        tokens: all samples, in the order of the file.
        modalities: what the detector saw, from the file's ``meta``.
    """

    table: pa.Table
    tokens: tuple[str, ...]
    modalities: tuple[str, ...]


def read_results(path: Path, prepared: PreparedData, split: str, progress: Progress, subset: bool = False) -> Results:
    """Read and check a result file of a split.

    Samples that were left out of the prepared data for want of their files are passed over.

    Args:
        subset: the file may lack samples of the split.

    Raises:
        UsageError: it cannot be read, is not JSON in the format of a nuScenes submission, does not have exactly the
            samples of the split (some of them, with `subset`), or holds a box that the benchmark would refuse or that
            is not finite.
        DatasetError: the split is empty.
    """
    reader = _Reader(path, prepared, split, subset)
    with progress.task(f"reading {path.name}", total=len(reader.missing), unit="samples") as task:
        for token, boxes in reader.samples(_read_text(path)):
            reader.add(token, boxes)
            task.advance()
    return reader.finish()


@contextmanager
def explain_unreadable(path: Path) -> Iterator[None]:
    """Turn what goes wrong while a results file is read into one clear sentence.

    Raises:
        UsageError: the file is missing, cannot be read, or is not text.
    """
    try:
        yield
    except FileNotFoundError:
        raise UsageError(f"there is no results file {path}; check the path given to --results.") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path} is {_kind_of_bytes(path)}; {_EXPECTED}.") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror}); {_EXPECTED}.") from None


def _kind_of_bytes(path: Path) -> str:
    with suppress(OSError), path.open("rb") as stream:
        start = stream.read(2)
        return {b"\x1f\x8b": "compressed with gzip (unpack it)", b"PK": "a zip archive (unpack it)"}.get(
            start, "a pickle" if start[:1] == b"\x80" else "not UTF-8 text"
        )
    return "not UTF-8 text"


def _read_text(path: Path) -> str:
    with explain_unreadable(path), path.open("rb") as stream:
        if not path.stat().st_size:
            raise UsageError(f"{path} is empty; {_EXPECTED}.")
        # Mapped, the bytes need no memory beside the text's.
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return str(data, "utf-8-sig")


class _Reader:
    """Collects the columns of a file whose samples are given in turn."""

    def __init__(self, path: Path, prepared: PreparedData, split: str, subset: bool) -> None:
        self.path, self.prepared, self.split, self.subset = path, prepared, split, subset
        self.missing = dict.fromkeys(prepared.tokens(split))
        self.left_out = set(prepared.left_out_tokens(split))
        self.total = len(self.missing)
        self.names = KnownNames.of(prepared.description)
        self.max_boxes = prepared.description.evaluation.max_boxes
        self.tokens: list[str] = []
        self.modalities: tuple[str, ...] = ()
        self.parts: dict[str, list[NDArray]] = {name: [] for name in ("numbers", "box", "label", "attribute", "sample")}

    def samples(self, text: str) -> Iterator[tuple[str, Any]]:
        """Sample tokens and their boxes as Python values; the file's ``meta`` is checked on the way."""
        cursor, seen = JSONCursor(text), set()
        try:
            if cursor.peek() != "{":
                raise self.wrong(f"it begins with {cursor.peek()!r}; {_EXPECTED}")
            for key in cursor.members():
                if key in seen:
                    raise self.wrong(f"it has {key!r} twice; {_EXPECTED}")
                seen.add(key)
                if key == "results" and cursor.peek() == "{":
                    for token in cursor.members():
                        yield token, cursor.value()
                    continue
                value = cursor.value()
                if key == "results":
                    raise self.wrong(f'its "results" are {kind_of(value)}, not an object of sample tokens; {_EXPECTED}')
                if key == "meta":
                    self.read_meta(value)
            if cursor.peek():
                raise json.JSONDecodeError("more follows after the end", text, cursor.at)
        except json.JSONDecodeError as error:
            position = f"line {error.lineno}, column {error.colno}"
            raise self.wrong(
                f"it is not valid JSON at {position} ({error.msg[:1].lower()}{error.msg[1:]}); {_EXPECTED}"
            ) from None
        absent = [key for key in ("meta", "results") if key not in seen]
        if absent:
            raise self.wrong(f'it has no "{absent[0]}"; {_EXPECTED}')

    def read_meta(self, meta: Any) -> None:
        if not isinstance(meta, dict):
            raise self.wrong(f'its "meta" is {kind_of(meta)}; expected an object with use_camera, use_lidar and so on')
        self.modalities = tuple(name for name in _MODALITIES if meta.get(f"use_{name}") is True)

    def add(self, token: str, boxes: Any) -> None:
        """Check the boxes of one sample and keep them as numbers, the best first."""
        if token in self.left_out:
            self.left_out.remove(token)
            return
        if token not in self.missing:
            raise self.stranger(token)
        del self.missing[token]
        self.tokens.append(token)
        if not isinstance(boxes, list):
            raise self.wrong(f"the sample {token} has {kind_of(boxes)} where a list of boxes is expected")
        if len(boxes) > self.max_boxes:
            raise self.wrong(
                f"the sample {token} has {len(boxes)} boxes, and the benchmark accepts at most {self.max_boxes} "
                "of each; keep those of the highest scores"
            )
        if not boxes:
            return
        columns = box_columns(token, boxes, self.names)
        if columns is None:
            problems = ((number, box_problem(token, box, self.names)) for number, box in enumerate(boxes, start=1))
            number, problem = next((number, problem) for number, problem in problems if problem)
            raise self.wrong(f"box {number} of the sample {token} {problem}")
        numbers, label, attribute = columns
        order = np.argsort(-numbers[:, 12], kind="stable")
        numbers = numbers[order]
        in_global = GlobalBoxes(numbers[:, :3], numbers[:, 6:10], numbers[:, 10:12])
        self.parts["numbers"].append(numbers)
        self.parts["box"].append(to_model_frame(in_global, numbers[:, 3:6], self.prepared.global_from_lidar(token)))
        self.parts["label"].append(label[order])
        self.parts["attribute"].append(attribute[order])
        self.parts["sample"].append(np.full(len(boxes), len(self.tokens) - 1, dtype=np.int32))

    def finish(self) -> Results:
        """The table, if no sample is missing."""
        if self.subset and not self.tokens:
            raise self.wrong(f"it has none of the {self.total} samples of {self.split}")
        if self.missing and not self.subset:
            raise self.wrong(
                f"it lacks {len(self.missing)} of the {self.total} samples of {self.split}, such as "
                f"{next(iter(self.missing))}; every sample needs a list, an empty one where nothing was detected "
                "(or score the samples it has with --subset)"
            )
        numbers = self._take("numbers", np.zeros((0, 13)))
        label = self._take("label", np.zeros(0, dtype=np.int8))
        table = pa.Table.from_arrays(
            [
                _names(self._take("sample", np.zeros(0, dtype=np.int32)), self.tokens),
                pa.array(label),
                _names(label, self.names.classes),
                pa.array(numbers[:, 12]),
                as_fixed_lists(self._take("box", np.zeros((0, 9)))),
                as_fixed_lists(numbers[:, :3]),
                as_fixed_lists(numbers[:, 6:10]),
                as_fixed_lists(numbers[:, 10:12]),
                _names(self._take("attribute", np.zeros(0, dtype=np.int8)), self.names.attributes),
            ],
            schema=RESULTS_SCHEMA,
        )
        return Results(table, tuple(self.tokens), self.modalities)

    def _take(self, name: str, empty: NDArray) -> NDArray:
        """One column of all samples; its parts are let go."""
        return np.concatenate([empty, *self.parts.pop(name)])

    def wrong(self, problem: str) -> UsageError:
        return UsageError(f"{self.path} cannot be evaluated: {problem}.")

    def stranger(self, token: str) -> UsageError:
        if token in self.tokens:
            return self.wrong(f"it has the sample {token} twice")
        return self.wrong(
            f"the sample {token!r} is not among the {self.total} samples of {self.split} in {self.prepared.version}; "
            "choose the split the file was made for with --split"
        )


def _names(indices: NDArray, names: Sequence[str]) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(indices), pa.array(names, pa.string())).cast(pa.string())
