"""Point Cloud Data (PCD) files: written in binary, and read by what their own header says.

A header of text lines names the fields and gives each a size in bytes, a type (F float, I signed, U unsigned) and a
count; ``DATA`` says how the points follow it: ``ascii`` (a line a point), ``binary`` (a record a point) or
``binary_compressed`` (LZF, all values of the first field, then of the second, ...). A file holds WIDTH x HEIGHT points;
bytes after the last binary record do not count.
"""

import re
import struct
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crkd_core.datasets.nuscenes.files import open_sensor_file

PADDING = "_"
"""Name of fields that hold nothing."""

_HEADER_BYTES = 1 << 16
_SIGNATURE_BYTES = 64
_SIGNATURES = (b"# .PCD", b"VERSION ", b"FIELDS ")
_DATA_LINE = re.compile(rb"^[ \t]*DATA[ \t]+([^\s]+)[ \t]*(?:\r?\n|\Z)", re.MULTILINE)
_USUAL_END = b"\nDATA binary\n"
_KINDS = ("ascii", "binary", "binary_compressed")
_DTYPES = {("F", 4): "<f4", ("F", 8): "<f8"} | {
    (letter, size): f"<{letter.lower()}{size}" for letter in "IU" for size in (1, 2, 4, 8)
}


class PcdError(Exception):
    """What is wrong with a file, and what to do about it; who opened it knows its path."""

    state = "damaged"

    def __init__(self, problem: str, remedy: str = "unpack it again") -> None:
        super().__init__(problem)
        self.problem = problem
        self.remedy = remedy


class PcdTruncated(PcdError):
    """The file ends before its points do."""

    state = "truncated"


class PcdNotAsDescribed(PcdError):
    """The file is as its header says, but not as the description of the data set says."""

    state = "not as described"


@dataclass(frozen=True)
class PcdField:
    """One field: `count` values of a numpy `dtype` (None: padding) and `size` bytes in all a point."""

    name: str
    dtype: np.dtype | None
    count: int
    size: int


@dataclass(frozen=True)
class PcdHeader:
    """What a header says.

    Attributes:
        fields: in the order of the file.
        points: WIDTH x HEIGHT.
        kind: ``ascii``, ``binary`` or ``binary_compressed``.
        body: where the points begin in the file.
    """

    fields: tuple[PcdField, ...]
    points: int
    kind: str
    body: int
    _records: dict[tuple[str, ...], np.dtype] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def by_name(self) -> dict[str, PcdField]:
        """The fields that hold something."""
        return {part.name: part for part in self.fields if part.name != PADDING}

    @cached_property
    def single(self) -> frozenset[str]:
        """Names of the fields that have one value a point."""
        return frozenset(name for name, part in self.by_name.items() if part.count == 1)

    @cached_property
    def record_bytes(self) -> int:
        """Size of a binary record."""
        return sum(part.size for part in self.fields)

    @cached_property
    def whole_record(self) -> np.dtype | None:
        """The binary record with all fields, None where some are padding or have several values."""
        names = tuple(part.name for part in self.fields)
        return self.record(names) if len(self.single) == len(names) else None

    def record(self, names: tuple[str, ...]) -> np.dtype:
        """The binary record with these fields only."""
        if names not in self._records:
            offsets, end = {}, 0
            for part in self.fields:
                offsets[part.name] = end
                end += part.size
            formats = [self.by_name[name].dtype for name in names]
            self._records[names] = np.dtype(
                {"names": names, "formats": formats, "offsets": [offsets[name] for name in names], "itemsize": end}
            )
        return self._records[names]


def begins_as_pcd(path: Path, called: str) -> bool:
    """Whether a file begins as a PCD header does; `called` is what it is, for messages.

    Raises:
        DatasetError: it cannot be opened.
    """
    with open_sensor_file(path, called) as stream:
        return is_pcd(stream.read(_SIGNATURE_BYTES))


def is_pcd(data: bytes | bytearray) -> bool:
    """Whether a file begins as a PCD header does."""
    return bytes(data[:_SIGNATURE_BYTES]).lstrip().startswith(_SIGNATURES)


def read_header(data: bytes) -> PcdHeader:
    """The header at the start of a file.

    Raises:
        PcdError: there is none, or it contradicts itself.
    """
    end = data.find(_USUAL_END, 0, _HEADER_BYTES)
    if end >= 0:
        return _header_within(data[: end + len(_USUAL_END)])
    line = _data_line(data)
    return _parse_header(data[: line.end()])


def encode_points(points: NDArray) -> bytes:
    """A binary PCD file of a structured array with little-endian scalar fields and no gaps."""
    fields = [(name, points.dtype[name]) for name in points.dtype.names or ()]
    lines = [
        "# .PCD v0.7 - Point Cloud Data file format",
        "VERSION 0.7",
        "FIELDS " + " ".join(name for name, _ in fields),
        "SIZE " + " ".join(str(dtype.itemsize) for _, dtype in fields),
        "TYPE " + " ".join(dtype.kind.upper() for _, dtype in fields),
        "COUNT " + " ".join("1" for _ in fields),
        f"WIDTH {len(points)}",
        "HEIGHT 1",
        "VIEWPOINT 0 0 0 1 0 0 0",
        f"POINTS {len(points)}",
        "DATA binary\n",
    ]
    return "\n".join(lines).encode() + points.tobytes()


def _data_line(data: bytes) -> re.Match[bytes]:
    line = _DATA_LINE.search(data, 0, _HEADER_BYTES)
    if line is None:
        raise PcdError(
            f"expected a PCD header that ends in a line 'DATA binary' or 'DATA ascii', found none in {len(data)} bytes"
        )
    return line


@lru_cache(maxsize=512)  # the headers of a data set differ in little but WIDTH
def _header_within(start: bytes) -> PcdHeader:
    """The header in the bytes up to the first line ``DATA binary``; an earlier line DATA of another form ends it."""
    return _parse_header(start[: _data_line(start).end()])


@lru_cache(maxsize=512)
def _parse_header(text: bytes) -> PcdHeader:
    lines: dict[str, list[str]] = {}
    for line in text.decode("ascii", "replace").splitlines():
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if words[0] in lines:
            raise PcdError(f"its header has two lines {words[0]}")
        lines[words[0]] = words[1:]
    kind = lines["DATA"][0]
    if kind not in _KINDS:
        raise PcdError(f"its points are written as {kind!r}; expected one of {', '.join(_KINDS)}")
    return PcdHeader(_fields(lines), _points(lines), kind, len(text))


def _fields(lines: dict[str, list[str]]) -> tuple[PcdField, ...]:
    for key in ("FIELDS", "SIZE", "TYPE"):
        if not lines.get(key):
            raise PcdError(f"its header has no {key} line", "convert it again with FIELDS, SIZE, TYPE and WIDTH")
    names = lines["FIELDS"]
    columns = {key: lines[key] for key in ("SIZE", "TYPE", "COUNT") if key in lines}
    for key, values in columns.items():
        if len(values) != len(names):
            raise PcdError(f"its header names {len(names)} FIELDS and gives {key} of {len(values)}")
    twice = [name for name in names if name != PADDING and names.count(name) > 1]
    if twice:
        raise PcdError(f"its header names the field {twice[0]} twice")
    fields = []
    for index, name in enumerate(names):
        size, letter = _whole(columns["SIZE"][index], f"SIZE of {name}"), columns["TYPE"][index]
        count = _whole(columns["COUNT"][index], f"COUNT of {name}") if "COUNT" in columns else 1
        dtype = _DTYPES.get((letter, size))
        if dtype is None and name != PADDING:
            raise PcdError(
                f"the field {name} has TYPE {letter} of SIZE {size}; expected F of 4 or 8, or I or U of 1, 2, 4 or 8",
                "convert it to one of these",
            )
        fields.append(PcdField(name, None if dtype is None else np.dtype(dtype), count, size * count))
    return tuple(fields)


def _points(lines: dict[str, list[str]]) -> int:
    for key in ("WIDTH", "HEIGHT", "POINTS"):
        if key in lines and len(lines[key]) != 1:
            raise PcdError(f"the {key} line of its header has {len(lines[key])} values; expected 1")
    if "WIDTH" not in lines:
        raise PcdError("its header has no WIDTH line", "convert it again with FIELDS, SIZE, TYPE and WIDTH")
    width, height = _whole(lines["WIDTH"][0], "WIDTH"), _whole(lines.get("HEIGHT", ["1"])[0], "HEIGHT")
    said = _whole(lines["POINTS"][0], "POINTS") if "POINTS" in lines else width * height
    if said != width * height:
        raise PcdError(f"its header says WIDTH {width} x HEIGHT {height}, which is not POINTS {said}")
    return said


def _whole(word: str, name: str) -> int:
    if not re.fullmatch(r"[0-9]{1,18}", word):
        raise PcdError(f"{name} is {word[:20]!r} in its header; expected a whole number")
    return int(word)


def read_points(data: bytes, header: PcdHeader, names: tuple[str, ...]) -> NDArray:
    """The named fields of all points as a structured array: in the file's own types, of ascii files as float64.

    Args:
        data: the whole file.
        names: of the header's `single` fields.

    Raises:
        PcdError: there are fewer points than the header says, or they cannot be read.
    """
    if header.points == 0:
        return np.empty(0, [(name, header.by_name[name].dtype) for name in names])
    if header.kind == "ascii":
        return _read_ascii(data[header.body :], header, names)
    if header.kind == "binary_compressed":
        return _read_compressed(data[header.body :], header, names)
    expected = header.points * header.record_bytes
    if len(data) - header.body < expected:
        raise PcdTruncated(
            f"expected {expected} bytes of points ({header.points} points of {header.record_bytes} "
            f"bytes), found {len(data) - header.body}"
        )
    return np.frombuffer(data, header.record(names), header.points, header.body)


def _read_ascii(body: bytes, header: PcdHeader, names: tuple[str, ...]) -> NDArray:
    lines = [line for line in body.decode("ascii", "replace").split("\n") if line.strip()]
    if len(lines) != header.points:
        kind = PcdTruncated if len(lines) < header.points else PcdError
        raise kind(f"expected {header.points} lines of points, found {len(lines)}")
    columns, end = {}, 0
    for part in header.fields:
        columns[part.name] = end
        end += part.count
    table = np.empty(len(lines), [(name, "<f8") for name in names])
    try:
        values = np.array([line.split() for line in lines], dtype=np.float64)
    except ValueError:  # a word that is no number, perhaps of another field, or lines of different lengths
        values = np.empty((0, 0))
    if values.shape == (len(lines), end):
        for name in names:
            table[name] = values[:, columns[name]]
        return table
    for row, line in enumerate(lines):
        words = line.split()
        if len(words) != end:
            raise PcdError(f"point {row + 1} has {len(words)} numbers; expected {end}")
        table[row] = tuple(_number(words[columns[name]], row, name) for name in names)
    return table


def _number(word: str, row: int, name: str) -> float:
    try:
        return float(word)
    except ValueError:
        raise PcdError(f"the {name} of point {row + 1} is {word[:20]!r}; expected a number") from None


def _read_compressed(body: bytes, header: PcdHeader, names: tuple[str, ...]) -> NDArray:
    # Padding is left out of compressed bodies.
    parts = [part for part in header.fields if part.name != PADDING]
    expected = header.points * sum(part.size for part in parts)
    if len(body) < 8:
        raise PcdTruncated(f"expected 8 bytes of sizes and compressed points, found {len(body)} bytes")
    packed, unpacked = struct.unpack_from("<II", body)
    if unpacked != expected:
        raise PcdError(f"its compressed points are said to be {unpacked} bytes; expected {expected} from its header")
    if len(body) - 8 < packed:
        raise PcdTruncated(f"expected {packed} bytes of compressed points, found {len(body) - 8}")
    columns = decompress_lzf(body[8 : 8 + packed], unpacked)
    table = np.empty(header.points, [(name, header.by_name[name].dtype) for name in names])
    start = 0
    for part in parts:
        if part.name in names:
            table[part.name] = np.frombuffer(columns, part.dtype, header.points, start)
        start += part.size * header.points
    return table


def decompress_lzf(packed: bytes, size: int) -> bytes:
    """Undo LZF compression: runs of literal bytes, and copies of bytes that were written before.

    A control byte below 32 is followed by that many literals and one more. Of any other, the upper three bits are the
    length of a copy less 2 (7: the next byte is added), and the lower five with the next byte how far back it begins.

    Raises:
        PcdError: the data are damaged or do not make `size` bytes.
    """
    out = bytearray()
    at = 0
    while at < len(packed) and len(out) <= size:
        control = packed[at]
        # The end of a damaged file cuts slices short, or has no byte where one is looked for.
        operands = packed[at + 1 : at + 3]
        if control < 32:
            out += packed[at + 1 : at + control + 2]
            at += control + 2
        else:
            long = control >> 5 == 7
            if len(operands) < (2 if long else 1):
                raise PcdError(_DAMAGED)
            length = (control >> 5) + 2 + (operands[0] if long else 0)
            start = len(out) - ((control & 31) << 8) - operands[1 if long else 0] - 1
            if start < 0:
                raise PcdError(_DAMAGED)
            # A copy may reach into what it writes itself: then it repeats.
            pattern = out[start : start + length]
            out += (pattern * (length // len(pattern) + 1))[:length]
            at += 3 if long else 2
    if len(out) != size or at != len(packed):
        raise PcdError(_DAMAGED)
    return bytes(out)


_DAMAGED = "its compressed points are damaged"
