"""The camera branch takes grey levels, and normalises them where it is."""

from dataclasses import replace

import torch

from crkd_core.config.data import ImageConfig
from crkd_core.models.camera import Normalisation
from crkd_core.models.detector import build_detector
from tests.support.tiny_detector import TINY_DATA, tiny_config, tiny_inputs

IMAGE = ImageConfig()


def grey_levels(shape: torch.Size) -> torch.Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_normalisation_takes_off_the_mean_and_divides_by_the_deviation():
    image = torch.zeros(1, 3, 2, 3, dtype=torch.uint8)
    image[:, 1] = 255
    normalised = Normalisation(IMAGE.mean, IMAGE.std)(image)
    assert normalised.dtype == torch.float32
    torch.testing.assert_close(normalised[0, 0], torch.full((2, 3), -0.485 / 0.229))
    torch.testing.assert_close(normalised[0, 1], torch.full((2, 3), (1 - 0.456) / 0.224))


def test_floats_are_normalised_already():
    images = torch.randn(2, 3, 4, 4)
    assert Normalisation(IMAGE.mean, IMAGE.std)(images) is images


def test_normalisation_is_no_part_of_the_weights_and_keeps_its_precision_under_autocast():
    normalisation = Normalisation(IMAGE.mean, IMAGE.std)
    assert not normalisation.state_dict()
    images = grey_levels((1, 3, 4, 4))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(normalisation(images), normalisation(images))
        assert normalisation(images).dtype == torch.float32


def test_a_detector_sees_the_same_in_grey_levels_and_normalised_images():
    detector, inputs = build_detector(tiny_config(("camera", "radar")), TINY_DATA).eval(), tiny_inputs()
    images = grey_levels(inputs.images.shape)
    normalised = Normalisation(TINY_DATA.image.mean, TINY_DATA.image.std)(images)
    with torch.inference_mode():
        outputs = [detector(replace(inputs, images=each)).features.fused for each in (images, normalised)]
    assert torch.equal(*outputs)
