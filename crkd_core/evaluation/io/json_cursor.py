"""Reading a large JSON text value by value, so that it never is one tree of Python objects."""

import json
import re
from collections.abc import Iterator
from typing import Any


class JSONCursor:
    """A place in a JSON text, from which values are read one by one.

    Raises:
        json.JSONDecodeError: from any method, where the text is not JSON or not readable.
    """

    _decoder = json.JSONDecoder()
    _space = re.compile(r"[ \t\n\r]*")

    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0

    def peek(self) -> str:
        """The next character that is not space, '' at the end; stays there."""
        self.at = self._space.match(self.text, self.at).end()  # type: ignore[union-attr]
        return self.text[self.at : self.at + 1]

    def take(self, character: str) -> None:
        """Go past the next character, which must be this one."""
        if self.peek() != character:
            raise json.JSONDecodeError(f"expected '{character}'", self.text, self.at)
        self.at += 1

    def value(self) -> Any:
        """The whole value that begins here."""
        self.peek()
        try:
            value, self.at = self._decoder.raw_decode(self.text, self.at)
        except RecursionError:
            raise json.JSONDecodeError("values are nested too deeply", self.text, self.at) from None
        except json.JSONDecodeError:
            raise
        except ValueError as error:  # a whole number of thousands of digits
            raise json.JSONDecodeError(str(error).partition(";")[0], self.text, self.at) from None
        return value

    def members(self) -> Iterator[str]:
        """Keys of the object that begins here; whoever is given one reads its value before asking for the next."""
        self.take("{")
        more = self.peek() != "}"
        while more:
            if self.peek() != '"':
                raise json.JSONDecodeError("expected a key", self.text, self.at)
            key = self.value()
            self.take(":")
            yield key
            if self.peek() == "}":
                break
            self.take(",")
        self.take("}")
