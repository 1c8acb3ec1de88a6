"""Typed access to the records of a table: a value of another kind is named by table, token and field.

The largest table has millions of records, so every getter begins with the check that nearly all values pass.
"""

import json
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain, islice
from operator import attrgetter
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
from msgspec import UNSET
from numpy.typing import NDArray

from crkd_core.datasets.nuscenes.json_stream import UnusualTable, iterate_records, iterate_typed
from crkd_core.datasets.nuscenes.table_records import TableRecord
from crkd_core.datasets.nuscenes.token_keys import token_keys
from crkd_core.errors import DatasetError

_Value = TypeVar("_Value")
_Kind = TypeVar("_Kind", bound=TableRecord)
_INT64 = (-(2**63), 2**63 - 1)
_TIMES_US = (-(2**62), 2**62)
_SHOWN_CHARACTERS = 40
_TIMESTAMP = "timestamp"
_BATCH = 4096
_ABSENT = (None, UNSET)


class TableReader(Generic[_Kind]):
    """One table of a version folder; iterating gives its records.

    A field whose value is JSON's null counts as absent. Tokens may be whole numbers, as some converters write them.
    What has a plural name reads a field of many records, in a few calls where all of them are as they should be.

    Raises:
        DatasetError: while iterating, or by a getter: naming what is wrong.
    """

    def __init__(self, folder: Path, name: str, record: type[_Kind]) -> None:
        self.name = name
        self.path = folder / f"{name}.json"
        self._record = record

    def __iter__(self) -> Iterator[_Kind]:
        return chain.from_iterable(self.batches())

    def batches(self) -> Iterator[list[_Kind]]:
        """The records, thousands at a time."""
        given = 0
        try:
            for batch in iterate_typed(self.path, self._record):
                given += len(batch)
                yield batch
            return
        except UnusualTable:
            pass
        fields = self._record.__struct_fields__
        rest = islice(iterate_records(self.path), given, None)
        while records := list(islice(rest, _BATCH)):
            yield [self._record(**{name: values[name] for name in fields if name in values}) for values in records]

    def token(self, record: _Kind) -> str:
        """The record's own token."""
        value = record.token
        if type(value) is int:
            return str(value)
        if type(value) is str and value:
            return value if value.isprintable() else self._checked(record, "token", value)
        raise self.wrong(record, "token", "a token (text)")

    def own_tokens(self, records: Sequence[_Kind]) -> list[str]:
        """:meth:`token` of every record."""
        values = [record.token for record in records]
        if set(map(type, values)) <= {str} and all(values) and "".join(values).isprintable():
            return values
        return [self.token(record) for record in records]

    def link(self, record: _Kind, field: str) -> str:
        """The token of another record, '' where there is none (null or '')."""
        value = getattr(record, field)
        if type(value) is str:
            return value
        if type(value) is int:
            return str(value)
        if value is None:
            return ""
        raise self.wrong(record, field, "a token (text)")

    def links(self, records: Sequence[_Kind], field: str) -> list[str]:
        """:meth:`link` of every record."""
        values = list(map(attrgetter(field), records))
        return values if set(map(type, values)) <= {str} else [self.link(record, field) for record in records]

    def find(self, index: Mapping[str, _Value], record: _Kind, field: str, table: str) -> _Value:
        """What belongs to the record of another `table` that a field refers to."""
        token = self.link(record, field)
        try:
            return index[token]
        except KeyError:
            raise self.no_record(token, table) from None

    def find_rows(
        self, index: Mapping[str, int], records: Sequence[_Kind], field: str, table: str
    ) -> NDArray[np.int64]:
        """:meth:`find` of every record, where it is a row."""
        try:
            return np.fromiter(map(index.__getitem__, self.links(records, field)), np.int64, len(records))
        except KeyError as error:
            raise self.no_record(error.args[0], table) from None

    def text(self, record: _Kind, field: str, default: str | None = None) -> str:
        """A text; `default`, where given, stands for an absent one."""
        value = getattr(record, field)
        if type(value) is str:
            return value if value.isprintable() else self._checked(record, field, value)
        if value in _ABSENT and default is not None:
            return default
        raise self.wrong(record, field, "text")

    def texts(self, records: Sequence[_Kind], field: str) -> list[str]:
        """:meth:`text` of every record."""
        values = list(map(attrgetter(field), records))
        if set(map(type, values)) <= {str} and "".join(values).isprintable():
            return values
        return [self.text(record, field) for record in records]

    def integer(self, record: _Kind, field: str, limits: tuple[int, int] = _INT64, default: int | None = None) -> int:
        """A whole number within limits, both included; `default`, where given, stands for an absent one."""
        value = getattr(record, field)
        if type(value) is not int:
            if value in _ABSENT and default is not None:
                return default
            if type(value) is not float or not value.is_integer():
                raise self.wrong(record, field, "a whole number")
            value = int(value)
        if not limits[0] <= value <= limits[1]:
            raise self.wrong(record, field, f"a whole number from {limits[0]} to {limits[1]}")
        return value

    def integers(
        self, records: Sequence[_Kind], field: str, limits: tuple[int, int] = _INT64, default: int | None = None
    ) -> NDArray[np.int64]:
        """:meth:`integer` of every record."""
        values = list(map(attrgetter(field), records))
        if set(map(type, values)) == {int} and limits[0] <= min(values) and max(values) <= limits[1]:
            return np.array(values, dtype=np.int64)
        return np.array([self.integer(record, field, limits, default) for record in records], dtype=np.int64)

    def timestamps_us(self, records: Sequence[_Kind]) -> NDArray[np.int64]:
        """The records' times in microseconds; whether other units hide behind it is for all together to tell."""
        try:
            return self.integers(records, _TIMESTAMP, _TIMES_US)
        except DatasetError:
            return np.array([self._timestamp_us(record) for record in records], dtype=np.int64)

    def _timestamp_us(self, record: _Kind) -> int:
        value: Any = getattr(record, _TIMESTAMP)
        if type(value) is float and not value.is_integer():
            raise self.wrong(
                record, _TIMESTAMP, "a whole number of microseconds (with a fraction it looks like seconds)"
            )
        return self.integer(record, _TIMESTAMP, _TIMES_US)

    def flags(self, records: Sequence[_Kind], field: str) -> NDArray[np.bool_]:
        """:meth:`flag` of every record."""
        values = list(map(attrgetter(field), records))
        flags = values if set(map(type, values)) <= {bool} else [self.flag(record, field) for record in records]
        return np.array(flags, dtype=bool)

    def flag(self, record: _Kind, field: str) -> bool:
        """True or false; 1 and 0 will do."""
        value = getattr(record, field)
        if value is True or value is False:
            return value
        if type(value) is int and value in (0, 1):
            return bool(value)
        raise self.wrong(record, field, "true or false")

    def numbers(self, records: Sequence[_Kind], fields: Mapping[str, int]) -> NDArray[np.float64]:
        """Vectors of numbers, which may be NaN or infinite, side by side.

        Args:
            fields: their names and lengths.
        """
        return np.concatenate([self._vectors(records, *field) for field in fields.items()], axis=1)

    def _vectors(self, records: Sequence[_Kind], field: str, count: int) -> NDArray[np.float64]:
        values = list(map(attrgetter(field), records))
        # A tuple comes from the typed decoder, which has counted and converted its numbers.
        if not set(map(type, values)) <= {tuple}:
            values = [self._vector(record, field, count) for record in records]
        return np.fromiter(chain.from_iterable(values), np.float64, count * len(values)).reshape(-1, count)

    def _vector(self, record: _Kind, field: str, count: int) -> Sequence[float]:
        values = getattr(record, field)
        if type(values) not in (list, tuple) or len(values) != count:
            raise self.wrong(record, field, f"{count} numbers")
        try:
            return array("d", values)
        except (TypeError, OverflowError):
            raise self.wrong(record, field, f"{count} numbers") from None

    def tokens(self, record: _Kind, field: str) -> Sequence[str | int]:
        """A list of tokens; empty where it is absent."""
        values = getattr(record, field)
        if values in _ABSENT:
            return ()
        if type(values) is list and all(type(value) in (str, int) for value in values):
            return values
        raise self.wrong(record, field, "a list of tokens")

    def index(self, value: Callable[[_Kind], _Value]) -> dict[str, _Value]:
        """A value of every record by its token.

        Raises:
            DatasetError: two records have the same token.
        """
        tokens, values = list[str](), list[_Value]()
        for record in self:
            tokens.append(self.token(record))
            values.append(value(record))
        return {token: values[row] for token, row in self.rows(tokens).items()}

    def rows(self, tokens: Sequence[str]) -> dict[str, int]:
        """Row of every record by its token.

        Raises:
            DatasetError: two records have the same token.
        """
        rows = {token: row for row, token in enumerate(tokens)}
        if len(rows) != len(tokens):
            twice = next(token for row, token in enumerate(tokens) if rows[token] != row)
            raise self.repeated(twice)
        return rows

    def find_token(self, field: str, key: NDArray[np.uint64]) -> str:
        """The first token of a field that has a key (see :func:`token_keys`): for messages, as it reads the table."""
        for batch in self.batches():
            tokens = self.own_tokens(batch) if field == "token" else self.links(batch, field)
            equal = (token_keys(tokens) == key).all(axis=1)
            if equal.any():
                return tokens[int(equal.argmax())]
        raise AssertionError(f"{self.path} was changed while it was read")

    def repeated(self, token: str) -> DatasetError:
        """The error to raise where two records have one token."""
        return DatasetError(
            f"the table {self.path} has two records with the token {token!r}; every record needs its own: mend what "
            "made the table."
        )

    def wrong(self, record: _Kind, field: str, expected: str) -> DatasetError:
        """The error to raise where a field is absent or has a value of another kind."""
        named = "a record" if record.token in _ABSENT else f"the record {_shown(record.token)}"
        if getattr(record, field) is UNSET:
            return DatasetError(
                f"the table {self.path} is damaged: {named} lacks the field {field!r}, expected {expected}; unpack the "
                "metadata again."
            )
        value = _shown(getattr(record, field))
        return DatasetError(
            f"the table {self.path} is damaged: {field} of {named} is {value}, expected {expected}; "
            "unpack the metadata again, or mend what made the table."
        )

    def no_record(self, token: str, table: str) -> DatasetError:
        """The error to raise where a record refers to one of `table` that is not there."""
        return DatasetError(
            f"{table}.json has no record with the token {token!r}, which a record of {self.name}.json refers to; "
            "the tables do not belong together or are incomplete: unpack the metadata archive again."
        )

    def _checked(self, record: _Kind, field: str, text: str) -> str:
        """Text with characters that are not printable, if it can be stored and name a file."""
        if "\0" in text:
            raise self.wrong(record, field, "text without NUL")
        try:
            text.encode()
        except UnicodeEncodeError:
            raise self.wrong(record, field, "text without halves of characters (lone surrogates)") from None
        return text


def _shown(value: Any) -> str:
    """A value as JSON has it, cut short, in characters that every terminal can show."""
    text = json.dumps(value)
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "..."
