"""Reading nuScenes' JSON tables part by part, so that a table of gigabytes never becomes gigabytes of objects.

:func:`iterate_typed` is fast and gives up on anything unusual; :func:`iterate_records` reads all that a JSON list of
records may be, or says what is wrong with it and where.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO, TypeVar

import msgspec

from crkd_core.datasets.nuscenes.regular_files import refuse_special_file
from crkd_core.errors import DatasetError

_Record = TypeVar("_Record", bound=msgspec.Struct)
_CHUNK_BYTES = 1 << 20
_CHUNK_CHARACTERS = 1 << 22
_LONGEST_RECORD = 1 << 20
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_BOUNDARY = re.compile(rb"\}\s*,\s*\{")
_SEPARATOR = re.compile(r"[\s,]*")


class UnusualTable(Exception):
    """A table, or the rest of it, is to be read with :func:`iterate_records`."""


def iterate_typed(path: Path, record: type[_Record]) -> Iterator[list[_Record]]:
    """The records of a table as lists of typed structs, as long as it is what nuScenes' tables are.

    Raises:
        UnusualTable: the next part of it cannot be decoded so, for whatever reason.
    """
    decoder = msgspec.json.Decoder(list[record])  # type: ignore[valid-type]
    refuse_special_file(path, "the table")
    try:
        with path.open("rb", buffering=0) as stream:
            data = stream.read(_CHUNK_BYTES).removeprefix(_BYTE_ORDER_MARK).lstrip()
            if not data.startswith(b"["):
                raise UnusualTable
            data = data[1:]
            while more := stream.read(_CHUNK_BYTES):
                data += more
                between = _last_boundary(data)
                if between is not None:
                    yield _decode(decoder, b"[" + data[: between.start() + 1] + b"]")
                    data = data[between.end() - 1 :]
                elif len(data) > _LONGEST_RECORD + 2 * _CHUNK_BYTES:
                    raise UnusualTable
            yield _decode(decoder, b"[" + data)
    except (OSError, UnicodeDecodeError, RecursionError, msgspec.MsgspecError):
        raise UnusualTable from None


def _last_boundary(data: bytes) -> re.Match[bytes] | None:
    """The last end of a record and beginning of the next; if it lies within a record, decoding will tell."""
    return max(_BOUNDARY.finditer(data, max(0, len(data) - _LONGEST_RECORD)), key=re.Match.start, default=None)


def _decode(decoder: "msgspec.json.Decoder[list[_Record]]", data: bytes) -> list[_Record]:
    if not data.isascii():
        data.decode()  # the decoder does not look at the texts of fields that it skips
    return decoder.decode(data)


def iterate_records(path: Path) -> Iterator[dict[str, Any]]:
    """The records of a table, which is one JSON list of objects; a byte-order mark before it is skipped.

    Raises:
        DatasetError: the file is missing, no regular file, truncated, or not a JSON list of objects and nothing else;
            names the file and the position.
    """
    refuse_special_file(path, "the table")
    decode = json.JSONDecoder().raw_decode
    try:
        with path.open(encoding="utf-8-sig") as stream:
            buffer = stream.read(_CHUNK_CHARACTERS)
            start = len(buffer) - len(buffer.lstrip())
            if buffer[start : start + 1] != "[":
                raise _invalid(path, start, "a JSON list of records", buffer[start : start + 20])
            position, offset = start + 1, 0
            while True:
                position = _SEPARATOR.match(buffer, position).end()  # type: ignore[union-attr]
                if buffer.startswith("]", position):
                    _check_end(path, stream, buffer[position + 1 :], offset + position + 1)
                    return
                try:
                    record, position = decode(buffer, position)
                except json.JSONDecodeError:
                    more = stream.read(_CHUNK_CHARACTERS) if len(buffer) - position < _LONGEST_RECORD else ""
                    if not more:
                        raise _broken(path, offset + position, buffer[position:]) from None
                    buffer, position, offset = buffer[position:] + more, 0, offset + position
                    continue
                except (RecursionError, ValueError) as error:
                    problem = (
                        "nested too deeply" if isinstance(error, RecursionError) else "a number of too many digits"
                    )
                    begin = buffer[position : position + 20]
                    raise _invalid(path, offset + position, "a plain record", begin, problem) from None
                if not isinstance(record, dict):
                    raise _invalid(path, offset + position, "a record (a JSON object)", str(record)[:20])
                yield record
    except FileNotFoundError:
        raise DatasetError(
            f"the table {path} is missing; expected every nuScenes JSON table in {path.parent}: "
            "unpack the metadata archive again."
        ) from None
    except UnicodeDecodeError as error:
        raise DatasetError(
            f"the table {path} is damaged: it is not UTF-8 text ({error.reason}); unpack it again."
        ) from None
    except OSError as error:
        raise DatasetError(
            f"the table {path} cannot be read: {error.strerror or error}; check the file and its permissions."
        ) from None


def _check_end(path: Path, stream: TextIO, rest: str, position: int) -> None:
    """Refuse what follows the list: it would be left out without a word."""
    while rest:
        if rest.strip():
            begin = len(rest) - len(rest.lstrip())
            raise _invalid(path, position + begin, "nothing after the list", rest[begin : begin + 20])
        position += len(rest)
        rest = stream.read(_CHUNK_CHARACTERS)


def _broken(path: Path, position: int, rest: str) -> DatasetError:
    if len(rest) < _LONGEST_RECORD:
        return DatasetError(
            f"the table {path} is truncated or not valid JSON at character {position}: expected a whole record or ']', "
            f"found {rest[:30]!r}{'...' if len(rest) > 30 else ''} before the end of the file; "
            "unpack the metadata archive again."
        )
    return _invalid(path, position, "a whole record", rest[:30])


def _invalid(path: Path, position: int, expected: str, actual: str, problem: str = "") -> DatasetError:
    return DatasetError(
        f"the table {path} is not valid at character {position}: expected {expected}, found {actual!r}"
        f"{problem and f' ({problem})'}; unpack the metadata archive again."
    )
