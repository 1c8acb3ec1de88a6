"""HTML as strings: escaping, elements and tables."""

import html
from collections.abc import Iterable, Sequence

_VOID = ("img", "link", "meta")


class Markup(str):
    """Text that is HTML already."""


def element(name: str, /, *children: str | Markup, **attributes: str | None) -> Markup:
    """An element; children that are no :class:`Markup` are escaped.

    A name's trailing underscore goes, others become dashes: ``class_``, ``aria_label``. None leaves an attribute out.
    """
    words = [
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(value)}"'
        for key, value in attributes.items()
        if value is not None
    ]
    opening = f"<{name}{''.join(words)}>"
    return Markup(opening if name in _VOID else f"{opening}{joined(children)}</{name}>")


def joined(children: Iterable[str | Markup]) -> Markup:
    """One after the other."""
    return Markup("".join(child if isinstance(child, Markup) else html.escape(child) for child in children))


def table(
    caption: str, columns: Sequence[str], rows: Iterable[Sequence[str | Markup]], class_: str | None = None
) -> Markup:
    """A table whose first column names the rows; it scrolls sideways where the window is narrower."""
    head = element("tr", *(element("th", column, scope="col") for column in columns))
    body = [
        element("tr", element("th", row[0], scope="row"), *(element("td", cell) for cell in row[1:])) for row in rows
    ]
    parts = element("caption", caption), element("thead", head), element("tbody", *body)
    return scrolling(caption, element("table", *parts, class_=class_))


def scrolling(label: str, wide: Markup) -> Markup:
    """What may be wider than the window, and then scrolls sideways alone."""
    # A region that scrolls has to be reachable by keyboard.
    return element("div", wide, class_="scroll", tabindex="0", role="region", aria_label=label)


def folded(summary: str, *children: Markup) -> Markup:
    """What is shown only when it is asked for."""
    return element("details", element("summary", summary), *children)


def score(value: float | None, digits: int = 3) -> str:
    """As tables write it."""
    return "-" if value is None or value != value else f"{value:.{digits}f}"


def signed(value: float | None) -> str:
    """A difference."""
    # A minus sign is as wide as a plus.
    return "-" if value is None else f"{value:+.3f}".replace("-", "\u2212")


def span(low: float | None, high: float | None) -> str:
    """An interval; "" where there is none."""
    return "" if low is None or high is None else f"{score(low)} to {score(high)}"
