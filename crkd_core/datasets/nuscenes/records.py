"""Typed access to the records of a table: a value of another kind is named by table, token and field.

The largest table has millions of records, so every getter begins with the check that nearly all values pass.
"""

import json
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from crkd_core.datasets.nuscenes.json_stream import iterate_records
from crkd_core.errors import DatasetError

Record = Mapping[str, Any]
_Value = TypeVar("_Value")
_INT64 = (-(2**63), 2**63 - 1)
_TIMES_US = (-(2**62), 2**62)
_SHOWN_CHARACTERS = 40


class TableReader:
    """One table of a version folder; iterating gives its records.

    A field whose value is JSON's null counts as absent. Tokens may be whole numbers, as some converters write them.

    Raises:
        DatasetError: while iterating, or by a getter: naming what is wrong.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self.path = folder / f"{name}.json"

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iterate_records(self.path)

    def token(self, record: Record) -> str:
        """The record's own token."""
        value = record.get("token")
        if type(value) is int:
            return str(value)
        if type(value) is str and value:
            return value if value.isprintable() else self._checked(record, "token", value)
        raise self.wrong(record, "token", "a token (text)")

    def link(self, record: Record, field: str) -> str:
        """The token of another record, '' where there is none (null or '')."""
        value = record.get(field)
        if type(value) is str:
            return value
        if type(value) is int:
            return str(value)
        if value is None and field in record:
            return ""
        raise self.wrong(record, field, "a token (text)")

    def find(self, index: Mapping[str, _Value], record: Record, field: str, table: str) -> _Value:
        """What belongs to the record of another `table` that a field refers to."""
        try:
            return index[record[field]]
        except (KeyError, TypeError):
            token = self.link(record, field)
            if token in index:
                return index[token]
            raise self.no_record(token, table) from None

    def text(self, record: Record, field: str, default: str | None = None) -> str:
        """A text; `default`, where given, stands for an absent one."""
        value = record.get(field)
        if type(value) is str:
            return value if value.isprintable() else self._checked(record, field, value)
        if value is None and default is not None:
            return default
        raise self.wrong(record, field, "text")

    def integer(self, record: Record, field: str, limits: tuple[int, int] = _INT64, default: int | None = None) -> int:
        """A whole number within limits, both included; `default`, where given, stands for an absent one."""
        value = record.get(field)
        if type(value) is not int:
            if value is None and default is not None:
                return default
            if type(value) is not float or not value.is_integer():
                raise self.wrong(record, field, "a whole number")
            value = int(value)
        if not limits[0] <= value <= limits[1]:
            raise self.wrong(record, field, f"a whole number from {limits[0]} to {limits[1]}")
        return value

    def timestamp_us(self, record: Record) -> int:
        """The record's time in microseconds; whether other units hide behind it is for all records together to tell."""
        value = record.get("timestamp")
        if type(value) is float and not value.is_integer():
            raise self.wrong(
                record, "timestamp", "a whole number of microseconds (with a fraction it looks like seconds)"
            )
        return self.integer(record, "timestamp", _TIMES_US)

    def flag(self, record: Record, field: str) -> bool:
        """True or false; 1 and 0 will do."""
        value = record.get(field)
        if value is True or value is False:
            return value
        if type(value) is int and value in (0, 1):
            return bool(value)
        raise self.wrong(record, field, "true or false")

    def append_numbers(self, column: array, record: Record, fields: Mapping[str, int]) -> None:
        """Append vectors of numbers, which may be NaN or infinite, to a column.

        Args:
            fields: their names and lengths.
        """
        numbers: list = []
        for field, count in fields.items():
            values = record.get(field)
            if type(values) is not list or len(values) != count:
                raise self.wrong(record, field, f"{count} numbers")
            numbers += values
        try:
            column.extend(numbers)
        except (TypeError, OverflowError):
            raise self._not_numbers(record, fields) from None

    def tokens(self, record: Record, field: str) -> Sequence[str | int]:
        """A list of tokens; empty where it is absent."""
        values = record.get(field)
        if values is None:
            return ()
        if type(values) is list and all(type(value) in (str, int) for value in values):
            return values
        raise self.wrong(record, field, "a list of tokens")

    def index(self, value: Callable[[Record], _Value]) -> dict[str, _Value]:
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
            raise DatasetError(
                f"the table {self.path} has two records with the token {twice!r}; every record needs its own: mend "
                "what made the table."
            )
        return rows

    def wrong(self, record: Record, field: str, expected: str) -> DatasetError:
        """The error to raise where a field is absent or has a value of another kind."""
        named = f"the record {_shown(record['token'])}" if record.get("token") is not None else "a record"
        if field not in record:
            return DatasetError(
                f"the table {self.path} is damaged: {named} lacks the field {field!r}, expected {expected}; unpack the "
                "metadata again."
            )
        return DatasetError(
            f"the table {self.path} is damaged: {field} of {named} is {_shown(record[field])}, expected {expected}; "
            "unpack the metadata again, or mend what made the table."
        )

    def no_record(self, token: str, table: str) -> DatasetError:
        """The error to raise where a record refers to one of `table` that is not there."""
        return DatasetError(
            f"{table}.json has no record with the token {token!r}, which a record of {self.name}.json refers to; "
            "the tables do not belong together or are incomplete: unpack the metadata archive again."
        )

    def _not_numbers(self, record: Record, fields: Mapping[str, int]) -> DatasetError:
        for field, count in fields.items():
            try:
                array("d", record[field])
            except (TypeError, OverflowError):
                return self.wrong(record, field, f"{count} numbers")
        raise AssertionError("a vector was refused, and none of its parts was")

    def _checked(self, record: Record, field: str, text: str) -> str:
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
