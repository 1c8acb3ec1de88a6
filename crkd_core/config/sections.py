"""What every configuration section shares."""

from collections.abc import Hashable, Iterable
from typing import Annotated, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from crkd_core.config.classes import DETECTION_CLASSES


class Section(BaseModel):
    """Base of all sections: unknown keys are refused and values never change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


Member = TypeVar("Member", bound=Hashable)


def _distinct(members: tuple[Member, ...]) -> tuple[Member, ...]:
    twice = [member for member in members if members.count(member) > 1]
    if twice:
        raise ValueError(f"{twice[0]!r} stands there twice")
    return members


def known_classes(names: Iterable[str]) -> None:
    """Refuse names that no detection class has.

    Raises:
        ValueError: naming the first.
    """
    unknown = [name for name in names if name not in DETECTION_CLASSES]
    if unknown:
        raise ValueError(f"no class is called {unknown[0]!r}; the classes are {', '.join(DETECTION_CLASSES)}")


Distinct = AfterValidator(_distinct)
"""No member comes twice."""
Name = Annotated[str, Field(min_length=1, max_length=200)]
