"""Odd tables through the later stages: tokens that are no file names, and numbers of points that nobody knows."""

import json

import pytest

from tests.support.chain import CHAIN_OVERRIDES

VERSION = "v1.0-sim-mini"
SETTINGS = tuple(part for setting in CHAIN_OVERRIDES for part in ("--set", setting))


@pytest.fixture
def change(chain, tmp_path):
    """Changes every record of tables of a copy of the world; returns the copy."""
    world = chain.copy_world(tmp_path)

    def run(changed, *tables):
        for path in (world / VERSION).glob("*.json"):
            if not tables or path.stem in tables:
                records = json.loads(path.read_text())
                path.write_text(json.dumps([changed(record) or record for record in records]))
        return world

    return run


def with_slashes(record):
    for field, value in record.items():
        if value and (field in ("token", "prev", "next") or field.endswith("_token")):
            record[field] = f"../log/{value}/1" + "x" * 250 if field != "visibility_token" else value
        elif field.endswith("_tokens"):
            record[field] = [f"../log/{token}/1" + "x" * 250 for token in value]


@pytest.mark.devkit
def test_tokens_that_are_no_file_names_pass_all_stages(chain, change, crkd, tmp_path):
    workspace = chain.copy(tmp_path).workspace
    world = change(with_slashes)
    common = ("--prepared", "odd", "-w", workspace.root)
    for command in (
        ("prepare", "--nuscenes", world, "--name", "odd", "-w", workspace.root),
        ("extract-teacher", "--name", "odd", "--preset", "tiny", *SETTINGS, *common),
        ("evaluate", "--model", "teacher", "--workers", "0", "--official", "--force", *common),
        ("visualize", "--samples", "1", "-w", workspace.root),
    ):
        result = crkd(*command)
        assert result.code == 0, result.err
    pictures = [path.name for path in workspace.root.glob("visualize/*/0*.png")]
    assert len(pictures) == 1
    assert pictures[0].startswith("000-..-log-")


def set_points(record, lidar, radar):
    record.update(num_lidar_pts=lidar, num_radar_pts=radar)


@pytest.mark.devkit
@pytest.mark.parametrize(("lidar", "radar", "agrees"), [(-1, -1, True), (0, 0, False), (None, None, False)])
def test_boxes_whose_points_are_unknown_are_scored(chain, change, crkd, refused, tmp_path, lidar, radar, agrees):
    workspace = chain.copy(tmp_path).workspace
    world = change(lambda record: set_points(record, lidar, radar), "sample_annotation")
    assert crkd("prepare", "--nuscenes", world, "--name", "odd", "-w", workspace.root).code == 0
    command = ("evaluate", "--model", "teacher", "--prepared", "odd", "--workers", "0", "--force", "-w", workspace.root)
    if agrees:
        assert crkd(*command, "--official").code == 0
    else:
        refused(2, ("--official cannot agree on mini_val", "without point counts"), *command, "--official")
        assert crkd(*command).code == 0
    metrics = json.loads((workspace.root / "evaluate" / "teacher-val" / "metrics.json").read_text())
    assert sum(counts["annotations"] for counts in metrics["crkd"]["evaluated"].values()) > 0


def test_extraction_without_any_object(chain, change, crkd, refused, tmp_path):
    workspace = chain.copy(tmp_path).workspace
    world = change(lambda record: record["translation"].__setitem__(0, 1e5), "sample_annotation")
    assert crkd("prepare", "--nuscenes", world, "--name", "odd", "-w", workspace.root).code == 0
    words = ("training samples of prepare/odd have no object", "outside of the grid")
    refused(
        3,
        words,
        "extract-teacher",
        "--name",
        "n",
        "--preset",
        "tiny",
        *SETTINGS,
        "--prepared",
        "odd",
        "-w",
        workspace.root,
    )
