"""The presets as users see them."""

import yaml

from crkd_core.config.loading import describe_preset, load_config, preset_names


def test_all_presets_are_listed_with_their_purpose(crkd):
    result = crkd("presets")
    assert result.code == 0
    words = " ".join(result.out.split())
    for name in preset_names():
        assert name in words
        assert describe_preset(name).split(":")[0] in words


def test_a_printed_preset_is_a_config_file(crkd, tmp_path):
    result = crkd("presets", "tiny")
    (tmp_path / "mine.yaml").write_text(result.out)
    assert yaml.safe_load(result.out)
    assert load_config("paper-r50", tmp_path / "mine.yaml").data.grid == load_config("tiny").data.grid


def test_an_unknown_preset(crkd):
    result = crkd("presets", "tinny")
    assert result.code == 2
    assert "did you mean 'tiny'" in result.err
