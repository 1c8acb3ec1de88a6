"""Every number of every setting is finite, bounded and a number: all fields of all sections are tried."""

import types
import typing
from collections.abc import Iterator

import pytest
from pydantic import BaseModel, ValidationError

from crkd_core.config import load_config
from crkd_core.config.explaining import explain_invalid
from crkd_core.config.loading import validate_config
from crkd_core.config.numbers import MOST_SEED
from crkd_core.config.schema import Config
from crkd_core.datasets.simulated.config import SimulationConfig
from crkd_core.errors import ConfigError

HUGE = 10**5000
NOT_FINITE = (float("nan"), float("inf"), float("-inf"))


def sections(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """A model and all that it is made of."""
    yield model
    for field in model.model_fields.values():
        for inner in nested(field.annotation):
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                yield from sections(inner)


def nested(annotation: typing.Any) -> Iterator[typing.Any]:
    """A type and the types that it names."""
    yield annotation
    for inner in typing.get_args(annotation):
        if not isinstance(inner, str | int):
            yield from nested(inner)


SECTIONS = sorted({*sections(Config), *sections(SimulationConfig)}, key=lambda section: section.__name__)
FIELDS = [(section, name) for section in SECTIONS for name in section.model_fields]
NUMERIC = [
    (section, name) for section, name in FIELDS if {int, float} & set(nested(section.model_fields[name].annotation))
]


def label(value: object) -> str:
    return value.__name__ if isinstance(value, type) else str(value)


def refuses(section: type[BaseModel], name: str, value: object) -> bool:
    """Whether a value is refused for itself, in words that can be shown."""
    try:
        section.model_validate({name: value})
    except ValidationError as error:
        own = [problem for problem in error.errors() if problem["loc"][:1] == (name,)]
        return bool(own) and len(explain_invalid(error, section)) < 400
    except ConfigError:
        return True
    return False


def variants(annotation: typing.Any, number: object) -> Iterator[object]:
    """A number in every shape that a type has: alone, and at every position of a list or table."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        yield from variants(arguments[0], number)
    elif origin in (typing.Union, types.UnionType):
        for argument in arguments:
            if argument is not type(None):
                yield from variants(argument, number)
    elif origin is tuple:
        members = [member for member in arguments if member is not Ellipsis]
        for position, member in enumerate(members):
            for value in variants(member, number):
                yield [*[1] * position, value, *[1] * (len(members) - position - 1)]
    elif origin is dict:
        for value in variants(arguments[1], number):
            yield {"car": value}
    else:
        yield number


def test_there_are_as_many_numbers_as_the_presets_have():
    assert len(SECTIONS) > 25
    assert len(NUMERIC) > 90


@pytest.mark.parametrize(("section", "name"), NUMERIC, ids=label)
def test_what_is_no_usable_number_is_refused_by_every_field(section, name):
    annotation = section.model_fields[name].annotation
    tried = 0
    for number in (*NOT_FINITE, HUGE, -HUGE, 1e30, -1e30, True, "many", None, [[]], {"a": 1}):
        for value in variants(annotation, number):
            if value is None and type(None) in typing.get_args(annotation):
                continue
            assert refuses(section, name, value), f"{section.__name__}.{name} takes {str(value)[:60]}"
            tried += 1
    assert tried >= 11


@pytest.mark.parametrize(("section", "name"), NUMERIC, ids=label)
def test_every_list_of_numbers_refuses_to_be_empty_or_endless(section, name):
    annotation = section.model_fields[name].annotation
    lists = [inner for inner in nested(annotation) if typing.get_origin(inner) is tuple]
    if not lists:
        pytest.skip("no list")
    assert refuses(section, name, [])
    assert refuses(section, name, [1] * 200)
    if any(
        typing.get_origin(argument) is typing.Annotated or argument is Ellipsis
        for argument in typing.get_args(lists[-1])
    ):
        assert refuses(section, name, [[]])


PAIRS = [
    (section, name)
    for section, name in NUMERIC
    if typing.get_origin(section.model_fields[name].annotation) is tuple
    and len(typing.get_args(section.model_fields[name].annotation)) == 2
    and Ellipsis not in typing.get_args(section.model_fields[name].annotation)
]


@pytest.mark.parametrize(("section", "name"), PAIRS, ids=label)
def test_every_pair_is_ordered(section, name):
    assert refuses(section, name, [0.5, 0.25])
    assert refuses(section, name, [1])
    assert refuses(section, name, [0.25, 0.5, 1])
    if not section.model_fields[name].is_required():
        value = section.model_fields[name].get_default(call_default_factory=True)
        assert refuses(section, name, [value[1] + 1, value[0]])


def test_the_pairs_are_all_there():
    names = {name for _, name in PAIRS}
    assert {"train_resize", "rotation_deg", "scale", "depth_range_m", "x_range_m", "y_range_m", "z_range_m"} <= names
    assert {"range_steps_m", "speed_steps_mps", "growth", "growth_limits_m"} <= names


@pytest.mark.parametrize(("section", "name"), NUMERIC, ids=label)
def test_no_field_is_a_bare_number(section, name):
    metadata = section.model_fields[name].metadata
    if section.model_fields[name].annotation in (int, float):
        kinds = {type(one).__name__ for one in metadata}
        assert {"AfterValidator", "BeforeValidator"} <= kinds, f"{section.__name__}.{name} has no kind of number"


def changed(**values: object) -> Config:
    def merge(base: dict, top: dict) -> dict:
        both = {
            key: merge(base[key], top[key]) if isinstance(top[key], dict) else top[key] for key in base.keys() & top
        }
        return {**base, **top, **both}

    return validate_config(merge(load_config("tiny").model_dump(mode="json"), values))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"data": {"grid": {"cell_m": 1e-6}}}, ("BEV cells", "raise cell_m")),
        ({"data": {"image": {"height_px": 4096, "width_px": 4096}}}, ("frustum points", "raise its depth_step_m")),
        (
            {"train": {"teacher": {"batch_size": 1024}}, "data": {"image": {"height_px": 512, "width_px": 1408}}},
            ("at most 124",),
        ),
        ({"student": {"camera": {"view_transform": {"depth_step_m": 1000}}}}, ("0 depth bins", "expected 1 to")),
        ({"student": {"camera": {"view_transform": {"depth_step_m": 1e-6}}}}, ("depth bins", "expected 1 to 1000")),
        ({"teacher": {"lidar": {"voxel_m": [0.375, 0.375, 1e-6]}}}, ("layers", "raise the height")),
        ({"student": {"decoder": {"strides": [3, 3, 3]}}}, ("multiples of 3", "64 x 64")),
        ({"student": {"decoder": {"strides": []}}}, ("at least 1",)),
        ({"student": {"decoder": {"blocks": [[]]}}}, ("'student.decoder.blocks.0'", "found [] (list)")),
        ({"distill": {"respd": {"task_weights": [1, 1]}}}, ("at least 6",)),
        ({"distill": {"losses": ["csrd", "csrd"]}}, ("'csrd' stands there twice",)),
        ({"student": {"head": {"nms": {"size_factors": {"cat": 2}}}}}, ("no class is called 'cat'",)),
        ({"student": {"head": {"nms": {"circle_classes": {"bicycle": 2}}}}}, ("first class", "motorcycle")),
        ({"teacher": {"lidar": {"voxel_m": [0.375, 0.375]}}}, ("a longer list", "found [0.375, 0.375]")),
    ],
)  # fmt: skip
def test_values_that_do_not_fit_each_other(values, words):
    with pytest.raises(ConfigError) as caught:
        changed(**values)
    for word in words:
        assert word in str(caught.value)


def test_large_and_extreme_settings_that_work_stay_allowed():
    config = changed(
        train={"seed": MOST_SEED, "teacher": {"batch_size": 64}, "workers": 64},
        data={"augment_student": {"rotation_deg": [0, 0], "scale": [1, 1]}, "lidar": {"sweeps": 30}},
    )
    assert config.train.seed == MOST_SEED
