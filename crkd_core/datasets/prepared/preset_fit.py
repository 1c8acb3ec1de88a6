"""Whether a configuration is made for images of the prepared size, and which preset is."""

from math import log

from crkd_core.config.data import ImageConfig
from crkd_core.config.loading import DEFAULT_PRESET, load_config, preset_names
from crkd_core.datasets.prepared.prepared_data import PreparedData

# Width of an image that the resize factors are relative to.
_RELATIVE_TO_PX = 1600
# All presets shrink the images that they are made for to about half their size.
_USUAL = 0.5
_LARGEST = 1.0
_SMALLEST = 1 / 6


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
    fitting = fitting_preset(width_px)
    if _SMALLEST <= _factor(load_config(fitting).data.image, width_px) <= _LARGEST:
        remedy = f"the preset for such images is {fitting}: --preset {fitting}"
    else:
        remedy = "no preset is for such images: set data.image.width_px, train_resize and test_resize"
    return f"the images of {prepared.artifact.label} are {width_px} px wide, and data.image {treated}; {remedy}"


def fitting_preset(width_px: int) -> str:
    """The preset that is made for images of such a width; of several the default, else the first."""
    names = sorted(preset_names(), key=lambda name: (name != DEFAULT_PRESET, name))
    return min(names, key=lambda name: abs(log(_factor(load_config(name).data.image, width_px) / _USUAL)))


def _factor(image: ImageConfig, width_px: int) -> float:
    return image.test_resize * _RELATIVE_TO_PX / width_px
