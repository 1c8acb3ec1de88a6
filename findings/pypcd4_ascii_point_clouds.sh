#!/usr/bin/env bash
# pypcd4 1.5.1 (which truckscenes-devkit 1.2.0 reads with): ascii PCDs of one point, or with aligned columns, do not come back.
#
# Expected: the `pc_data` of an ascii PCD of one point has shape (1,), as a binary one's and as two ascii points have (2,);
# columns may be set apart by several blanks, as PCL's reader takes them and tools write them that align columns.
# Seen: one ascii point has `pc_data` of shape (), which makes the devkit's LidarPointCloud.points (4,) instead of (4, 1), and
# its nbr_points() raise IndexError; two blanks between values raise ValueError. A radar that sees one object, written in
# ascii, is enough for the first.
# What follows: write binary PCDs; and who reads other people's ascii PCDs splits at any white space and keeps two axes.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/environment"
"$folder/environment/bin/pip" install --quiet --disable-pip-version-check "truckscenes-devkit==1.2.0" "pypcd4==1.5.1" "numpy==1.26.4"
cd "$folder"

"$folder/environment/bin/python" -W ignore - <<'PYTHON'
from pathlib import Path

import numpy as np
from pypcd4 import Encoding, PointCloud
from truckscenes.utils.data_classes import LidarPointCloud

HEADER = """VERSION 0.7
FIELDS x y z intensity timestamp
SIZE 4 4 4 4 8
TYPE F F F F U
COUNT 1 1 1 1 1
WIDTH {count}
HEIGHT 1
VIEWPOINT 0 0 0 1 0 0 0
POINTS {count}
DATA ascii
"""
FIELDS, TYPES = ("x", "y", "z", "intensity", "timestamp"), [np.float32] * 4 + [np.uint64]


def read(name, lines):
    """What pypcd4 and the devkit make of an ascii file."""
    Path(name).write_text(HEADER.format(count=len(lines)) + "".join(f"{line}\n" for line in lines))
    seen = []
    for reader in (
        lambda: PointCloud.from_path(name).pc_data.shape,
        lambda: LidarPointCloud.from_file(name).nbr_points(),
    ):
        try:
            seen.append(reader())
        except (IndexError, ValueError) as error:
            seen.append(type(error).__name__)
    print(f"{name}: pypcd4 {seen[0]}, devkit {seen[1]}")
    return seen


PointCloud.from_points([np.array([value], kind) for value, kind in zip((1, 2, 3, 4, 5), TYPES)], FIELDS, TYPES).save(
    "one-binary.pcd", encoding=Encoding.BINARY
)
shape = PointCloud.from_path("one-binary.pcd").pc_data.shape
print("one-binary.pcd: pypcd4", shape)
assert shape == (1,)
assert read("two-points.pcd", ["1 2 3 4 5", "1 2 3 4 5"]) == [(2,), 2]
assert read("one-point.pcd", ["1 2 3 4 5"]) == [(), "IndexError"], "changed: one ascii point is read"
assert read("aligned.pcd", ["1  2 3 4 5", "10 2 3 4 5"])[0] == "ValueError", "changed: several blanks are read"
PYTHON
