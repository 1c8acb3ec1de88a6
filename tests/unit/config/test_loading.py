"""Configuration: presets, files, overrides and what is said about mistakes."""

from pathlib import Path

import pytest
import yaml

from crkd_core.config import describe_preset, load_config, preset_names
from crkd_core.config.loading import dump_config, validate_config, with_overrides
from crkd_core.config.models import SwinConfig
from crkd_core.config.schema import Config
from crkd_core.errors import ConfigError
from crkd_core.models.detector import build_detector
from tests.support.described import TASKS

EXAMPLES = sorted((Path(__file__).resolve().parents[3] / "examples").glob("*.yaml"))


@pytest.mark.parametrize("name", preset_names())
def test_presets_are_valid_described_and_survive_a_round_trip(name):
    config = load_config(name)
    assert len(describe_preset(name)) > 20
    assert validate_config(yaml.safe_load(dump_config(config))) == config


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.name)
def test_configurations_of_the_examples_build_both_detectors(file):
    config = load_config("tiny", file)
    for detector in (config.teacher, config.student):
        assert build_detector(detector, config.data, TASKS)


def test_the_last_of_preset_file_and_override_wins(tmp_path):
    file = tmp_path / "my.yaml"
    file.write_text("train: {seed: 5, gradient_clip: 7}\n")
    assert load_config("tiny").train.seed == 0
    assert load_config("tiny", file).train.seed == 5
    config = load_config("tiny", file, ["train.seed=6", "train.distill.learning_rate=1e-5", "distill.losses=[csrd]"])
    assert (config.train.seed, config.train.gradient_clip) == (6, 7)
    assert config.train.distill.learning_rate == 1e-5
    assert config.distill.losses == ("csrd",)
    # What is not named keeps the preset's value.
    assert config.train.distill.epochs == load_config("tiny").train.distill.epochs


def test_a_backbone_of_another_kind_begins_with_its_own_defaults():
    neck = "student.camera.neck.kind=lss_fpn"
    swin = ["student.camera.backbone.kind=swin", "student.camera.backbone.embed_dims=24"]
    assert load_config("tiny", None, [neck, *swin]).student.camera.backbone == SwinConfig(embed_dims=24)
    assert with_overrides(load_config("tiny"), [neck, *swin]).student.camera.backbone == SwinConfig(embed_dims=24)
    # The same kind again changes nothing else.
    assert load_config("tiny", None, ["student.camera.backbone={kind: resnet, width: 8}"]).student.camera.backbone == (
        load_config("tiny").student.camera.backbone.model_copy(update={"width": 8})
    )


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("train.sede=1", ["train.sede", "did you mean 'seed'"]),
        ("trian.seed=1", ["trian", "did you mean 'train'"]),
        ("train.seed=x", ["train.seed", "integer", "'x'"]),
        ("train.seed=-1", ["train.seed", "greater than or equal to 0"]),
        ("student.radar.padding=foo", ["student.radar.padding", "released", "masked"]),
        ("data.grid.cell_m=0.7", ["multiple of 4 whole cells"]),
        ("student.modalities=[lidar, radar]", ["modalities must be one of"]),
        ("student.fuser.channels=7", ["fuser.channels"]),
        ("student.camera.view_transform.kind=depth_lss", ["needs lidar"]),
        ("seed", ["section.field=value"]),
        ("train.seed=[1", ["not valid YAML"]),
    ],
)
def test_mistakes_are_explained(override, words):
    with pytest.raises(ConfigError) as caught:
        load_config("tiny", None, [override])
    for word in words:
        assert word in str(caught.value)


def test_unknown_preset_suggests(tmp_path):
    with pytest.raises(ConfigError, match="did you mean 'tiny'"):
        load_config("tinny")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config("tiny", tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_text("train: [")
    with pytest.raises(ConfigError, match="not valid YAML"):
        load_config("tiny", tmp_path / "bad.yaml")
    (tmp_path / "list.yaml").write_text("- 1")
    with pytest.raises(ConfigError, match="must hold sections"):
        load_config("tiny", tmp_path / "list.yaml")


def test_every_field_is_described():
    def walk(model, path):
        for name, field in model.model_fields.items():
            yield f"{path}.{name}", field.description
            inner = field.annotation
            if hasattr(inner, "model_fields"):
                yield from walk(inner, f"{path}.{name}")

    undescribed = [path for path, description in walk(Config, "config") if not description]
    assert undescribed == []
