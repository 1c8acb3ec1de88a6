"""Names of categories and attributes that a data set may have meant by others."""

from collections.abc import Iterable
from difflib import get_close_matches

from crkd_core.config.description import DatasetDescription


def similar_category(name: str, description: DatasetDescription) -> str | None:
    """The known category that a name is most like, by the whole of it, its last part or the class it maps to."""
    names = description.class_names
    by_class = {names[label]: category for category, label in reversed(description.label_of_category.items())}
    return _similar(name, description.categories, by_class)


def similar_attribute(name: str, description: DatasetDescription) -> str | None:
    """The known attribute that a name is most like, by the whole of it or its last part."""
    return _similar(name, description.attributes, {})


def _similar(name: str, known_names: Iterable[str], also: dict[str, str]) -> str | None:
    known = {full.rpartition(".")[2]: full for full in reversed(tuple(known_names))} | also
    known |= {full: full for full in known_names}
    for part in (name.lower(), name.lower().rpartition(".")[2]):
        close = get_close_matches(part, known, n=1, cutoff=0.7)
        if close:
            return known[close[0]]
    return None
