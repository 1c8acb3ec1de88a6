"""Whether a configuration is made for images of the prepared size and objects that far away, and which preset is."""

from math import log

from crkd_core.config.data import GridConfig, ImageConfig
from crkd_core.config.description_files import DEFAULT_DATASET
from crkd_core.config.loading import DEFAULT_PRESET, load_config, preset_names
from crkd_core.datasets.prepared.prepared_data import PreparedData

# Width of an image that the resize factors are relative to.
_RELATIVE_TO_PX = 1600
# All presets shrink the images that they are made for to about half their size.
_USUAL = 0.5
_LARGEST = 1.0
_SMALLEST = 1 / 6
# Presets of nuScenes, whose objects are evaluated up to 50 m, see to between 48 and 54 m.
_NEAREST = 1 / 2


def image_misfit(prepared: PreparedData, image: ImageConfig) -> str | None:
    """How a configuration treats images that it is plainly not made for, and what to do; None where it is.

    To enlarge images costs time and memory and shows nothing more; to shrink them to a few pixels hides the objects.
    """
    width_px = prepared.image_width_px
    if width_px is None:
        return None
    factor = _factor(image, width_px)
    if _SMALLEST <= factor <= _LARGEST:
        return None
    treated = f"{'enlarges' if factor > _LARGEST else 'shrinks'} them to {round(factor * width_px)} px"
    fitting = fitting_preset(width_px, prepared.description.name)
    if _SMALLEST <= _factor(load_config(fitting).data.image, width_px) <= _LARGEST:
        remedy = f"the preset for such images is {fitting}: --preset {fitting}"
    else:
        remedy = "no preset is for such images: set data.image.width_px, train_resize and test_resize"
    return f"the images of {prepared.artifact.label} are {width_px} px wide, and data.image {treated}; {remedy}"


def range_misfit(prepared: PreparedData, grid: GridConfig) -> str | None:
    """What of the evaluated range a grid leaves out, and what to do; None where it holds half of it or more."""
    description = prepared.description
    reach_m = min(abs(end) for end in (*grid.x_range_m, *grid.y_range_m))
    if reach_m >= _NEAREST * description.farthest_m:
        return None
    said = (
        f"data.grid ends {reach_m:g} m from the car, and objects of {description.text_name} are evaluated up to "
        f"{description.farthest_m:g} m"
    )
    width_px = prepared.image_width_px
    if width_px is None or not _presets_of(description.name):
        return f"{said}; set data.grid"
    fitting = fitting_preset(width_px, description.name)
    return f"{said}; the preset for such data is {fitting}: --preset {fitting}"


def fitting_preset(width_px: int, dataset: str = DEFAULT_DATASET) -> str:
    """The preset that is made for images of such a width; of several the default, else the first.

    Args:
        dataset: name of the data set; one without presets of its own has those of nuScenes.
    """
    names = _presets_of(dataset) or _presets_of(DEFAULT_DATASET)
    return min(names, key=lambda name: abs(log(_factor(load_config(name).data.image, width_px) / _USUAL)))


def _presets_of(dataset: str) -> list[str]:
    names = sorted(preset_names(), key=lambda name: (name != DEFAULT_PRESET, name))
    return [name for name in names if load_config(name).dataset.name == dataset]


def _factor(image: ImageConfig, width_px: int) -> float:
    return image.test_resize * _RELATIVE_TO_PX / width_px
