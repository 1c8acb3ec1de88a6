"""What every reader of sensor files does with what is no file of points or pixels."""

import os

import pytest

from crkd_core.data.images import read_image
from crkd_core.datasets.nuscenes.lidar import read_lidar
from crkd_core.datasets.nuscenes.radar import read_radar
from crkd_core.errors import DatasetError

READERS = {"radar file": read_radar, "LiDAR file": read_lidar, "image": read_image}


@pytest.mark.parametrize("kind", READERS)
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_pipes_and_folders_are_refused_and_not_waited_for(tmp_path, kind, make):
    make(tmp_path / "sensor")
    with pytest.raises(DatasetError, match=f"the {kind} .*sensor is a (folder|pipe) and not a regular file"):
        READERS[kind](tmp_path / "sensor")


@pytest.mark.parametrize("kind", READERS)
def test_a_device_is_refused(tmp_path, kind):
    (tmp_path / "sensor").symlink_to("/dev/zero")
    with pytest.raises(DatasetError, match="is a device and not a regular file"):
        READERS[kind](tmp_path / "sensor")


@pytest.mark.parametrize("kind", READERS)
@pytest.mark.parametrize("name", ["gone", "gone/deeper", "link"])
def test_what_is_missing_is_named(tmp_path, kind, name):
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises(DatasetError, match=f"the {kind} .*{name} is missing"):
        READERS[kind](tmp_path / name)
