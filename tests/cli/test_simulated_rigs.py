"""``crkd simulate --rig``: what is no rig is refused in one sentence, and a rig of one's own becomes a world."""

import json

import pytest

from tests.support.checkout import ROOT

RIG = """\
cameras:
  - {channel: FRONT, x_m: 1.7, z_m: 1.5, width_px: 1600, height_px: 900, field_of_view_deg: 70, rate_hz: 10}
  - {channel: REAR, x_m: 0.0, z_m: 1.5, yaw_deg: 180, width_px: 800, height_px: 600, focal_px: 500, rate_hz: 10}
lidars:
  - channel: TOP
    reference: true
    x_m: 1.0
    z_m: 1.9
    beams: 16
    elevation_deg: [-20, 10]
    azimuth_steps: 720
    range_m: 80
    rate_hz: 10
  - channel: NOSE
    x_m: 3.4
    z_m: 0.6
    beams: 8
    elevation_deg: [-10, 10]
    azimuth_steps: 360
    range_m: 40
    rate_hz: 10
radars:
  - channel: FRONT_RADAR
    x_m: 3.4
    z_m: 0.5
    views: [{range_m: 150, half_angle_deg: 45}]
    elevation_half_angle_deg: 15
    most_points: 300
    points: relative
    rate_hz: 13
"""
TRAILER = "trailer: {length_m: 8, width_m: 2, height_m: 3, front_ahead_m: 9}"
SMALL = ("--scenes", 1, "--val-scenes", 0, "--samples", 2, "--set", "density=0.3")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("x_m: 1.7", "x_m: 1.7, lens: wide", ("no key 'cameras.0.lens'",)),
        ("beams: 16", "beam: 16", ("no key 'lidars.0.beam'", "did you mean 'beams'?")),
        ("channel: NOSE", "channel: NOSE\n    reference: true", ("one LiDAR must be the reference", "TOP, NOSE are")),
        ("    reference: true\n", "", ("one LiDAR must be the reference", "none is")),
        ("channel: REAR", "channel: FRONT", ("two sensors are called FRONT",)),
        ("channel: NOSE", "channel: FRONT_RADAR", ("two sensors are called FRONT_RADAR",)),
        ("channel: NOSE", "channel: ../NOSE", ("lidars.1.channel: '../NOSE' is no channel",)),
        ("focal_px: 500", "focal_px: 0", ("'cameras.1.focal_px'", "greater than 0")),
        ("focal_px: 500, ", "", ("camera REAR has no focal length", "focal_px or field_of_view_deg")),
        ("focal_px: 500", "focal_px: 500, field_of_view_deg: 60", ("camera REAR has two focal lengths",)),
        ("focal_px: 500", "focal_px: 500, centre_px: [900, 300]", ("REAR looks past its own image", "800 x 600")),
        ("field_of_view_deg: 70", "field_of_view_deg: 190", ("'cameras.0.field_of_view_deg'", "found 190")),
        ("yaw_deg: 180", "yaw_deg: .nan", ("'cameras.1.yaw_deg'", "finite")),
        (
            "elevation_deg: [-20, 10]",
            "elevation_deg: [10, -20]",
            ("'lidars.0.elevation_deg'", "a lower and then a higher value"),
        ),
        ("elevation_deg: [-20, 10]", "elevation_deg: [-20, 90]", ("elevation_deg of TOP", "within 89 degrees")),
        ("elevation_deg: [-20, 10]", "elevation_deg: 10", ("'lidars.0.elevation_deg'", "a list")),
        ("views: [{range_m: 150, half_angle_deg: 45}]", "views: []", ("'radars.0.views'", "a list of at least 1")),
        ("points: relative", "points: polar", ("'radars.0.points'", "'nuscenes', 'relative' or 'compensated'")),
        ("most_points: 300", "most_points: -1", ("'radars.0.most_points'",)),
        ("rate_hz: 13", "rate_hz: 0.5", ("'radars.0.rate_hz'", "greater than or equal to 2")),
        ("z_m: 1.9", "z_m: -1.9", ("'lidars.0.z_m'", "greater than 0")),
        (
            "cameras:",
            "trailer: {length_m: 8, width_m: 2, height_m: 3, front_ahead_m: 9}\ncameras:",
            ("the trailer begins",),
        ),
        ("cameras:", "cameras: []\nold:", ("'cameras'", "a list of at least 1")),
        ("cameras:\n", "cameras: {\n", ("not valid YAML",)),
        (RIG, "- 1\n", ("must hold keys such as 'cameras:'",)),
    ],
    ids=lambda value: value[:30].strip() if isinstance(value, str) else "",
)
def test_a_rig_that_cannot_be(refused, tmp_path, old, new, words):
    assert old in RIG
    (tmp_path / "rig.yaml").write_text(RIG.replace(old, new, 1))
    refused(2, words, "simulate", "--rig", "rig.yaml", *SMALL)


def test_a_rig_file_that_is_not_there(refused, tmp_path):
    refused(2, ("the rig file nowhere.yaml cannot be read",), "simulate", "--rig", "nowhere.yaml")
    refused(2, ("the rig file", "is a folder"), "simulate", "--rig", tmp_path)


def test_what_does_not_go_with_a_rig_or_format(refused, tmp_path):
    (tmp_path / "rig.yaml").write_text(RIG.replace("points: relative", "points: nuscenes"))
    rig = ("--rig", "rig.yaml", *SMALL)
    refused(2, ("radar FRONT_RADAR writes other points than TruckScenes",), "simulate", *rig, "--format", "truckscenes")
    refused(2, ("image_width = 2000", "at most 1600"), "simulate", *rig, "--set", "image_width=2000")
    refused(
        2, ("lidar_sweeps_per_key_frame = 9", "at most 4"), "simulate", *rig, "--set", "lidar_sweeps_per_key_frame=9"
    )
    refused(2, ("no setting 'rig'",), "simulate", *rig, "--set", "rig=1")
    refused(2, ("at most 523",), "simulate", "--format", "truckscenes", "--size", "tiny", "--scenes", 600)


@pytest.mark.parametrize("form", ["nuscenes", "truckscenes"])
def test_a_rig_of_ones_own(crkd, refused, tmp_path, form):
    (tmp_path / "rig.yaml").write_text(RIG)
    command = ("simulate", "--rig", "rig.yaml", "--format", form, "--size", "tiny", *SMALL, "--out", "world")
    made = crkd(*command)
    assert made.code == 0, made.err
    (version,) = (tmp_path / "world").glob("v1*")
    tables = {path.stem: json.loads(path.read_text()) for path in version.glob("*.json")}
    channels = {sensor["channel"]: sensor["modality"] for sensor in tables["sensor"]}
    expected = {"TOP": "lidar", "NOSE": "lidar", "FRONT": "camera", "REAR": "camera", "FRONT_RADAR": "radar"}
    assert channels == expected
    assert len(tables["log"] if form == "nuscenes" else tables["weather_annotation"]) == 1
    sizes = {data["filename"].split("/")[1]: (data["width"], data["height"]) for data in tables["sample_data"]}
    assert sizes["FRONT"] == (352, 198)
    assert sizes["REAR"] == (176, 132)
    assert sizes["TOP"] == (0, 0)
    radar = next((tmp_path / "world" / "samples" / "FRONT_RADAR").iterdir()).read_bytes()
    assert b"FIELDS x y z vrel_x vrel_y vrel_z rcs\n" in radar
    again = crkd(*command)
    assert "already holds" in again.err + again.out
    (tmp_path / "rig.yaml").write_text(RIG.replace("beams: 16", "beams: 17"))
    refused(2, ("made with other settings", "the rig is another"), *command)


def test_the_example_is_a_rig(crkd, tmp_path):
    rig = ROOT / "examples" / "rigs" / "four_cameras.yaml"
    made = crkd("simulate", "--rig", rig, "--size", "tiny", *SMALL, "--set", "lidar_azimuth_steps=90", "--out", "van")
    assert made.code == 0, made.err
    assert len(list((tmp_path / "van" / "samples").iterdir())) == 9
