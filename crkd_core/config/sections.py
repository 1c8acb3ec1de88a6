"""What every configuration section shares."""

from collections.abc import Callable, Hashable, Iterable
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_serializer

from crkd_core.config.classes import DETECTION_CLASSES


class _Mark:
    """Metadata of a field; pydantic hands it through."""


OmittedAtDefault = _Mark()
"""Of a field ``name: Annotated[TYPE, OmittedAtDefault]`` that earlier versions did not have.

At its default it is not written, so that digests of what they made stay as they were.
"""


class Section(BaseModel):
    """Base of all sections: unknown keys are refused and values never change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_serializer(mode="wrap")
    def _without_later_defaults(self, serialise: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        fields = type(self).model_fields
        later = {name for name, field in fields.items() if OmittedAtDefault in field.metadata}
        unsaid = {name for name in later if getattr(self, name) == fields[name].get_default(call_default_factory=True)}
        return {name: value for name, value in serialise(self).items() if name not in unsaid}


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
