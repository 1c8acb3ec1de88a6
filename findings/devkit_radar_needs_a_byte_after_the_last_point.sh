#!/usr/bin/env bash
# nuscenes-devkit 1.2.0 with pypcd4 1.5.1: a radar PCD that ends with its last point cannot be read.
#
# Expected: a binary PCD of the 18 radar fields, written by a PCD library, opens in RadarPointCloud.from_file.
# Seen: AssertionError without a message. The reader requires that every field of every point ends *before* the last byte
# of the file, so it needs at least one byte after the points. nuScenes' own files have such bytes; what a PCD library
# writes (and the PCD format asks for) has none. The same file with one zero byte appended opens with all its points.
# What follows: who converts radars to nuScenes' format appends a byte, and who reads nuScenes' radars stops after
# WIDTH points instead of at the end of the file.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/devkit"
"$folder/devkit/bin/pip" install --quiet --disable-pip-version-check "nuscenes-devkit==1.2.0" "numpy==1.26.4"
python3 -m venv "$folder/pypcd4"
"$folder/pypcd4/bin/pip" install --quiet --disable-pip-version-check "pypcd4==1.5.1"
cd "$folder"

"$folder/pypcd4/bin/python" - <<'PYTHON'
import numpy as np
from pypcd4 import Encoding, PointCloud

floats = {"x", "y", "z", "rcs", "vx", "vy", "vx_comp", "vy_comp"}
fields = (
    "x", "y", "z", "dyn_prop", "id", "rcs", "vx", "vy", "vx_comp", "vy_comp", "is_quality_valid", "ambig_state",
    "x_rms", "y_rms", "invalid_state", "pdh0", "vx_rms", "vy_rms",
)
types = [np.float32 if name in floats else np.int16 if name == "id" else np.int8 for name in fields]
point = {"x": 10.0, "y": 2.0, "rcs": 5.0, "vx_comp": 1.5, "is_quality_valid": 1, "ambig_state": 3, "pdh0": 1}
rows = [np.array([point.get(name, 0)] * 3, dtype=kind) for name, kind in zip(fields, types)]
PointCloud.from_points(rows, fields, types).save("exact.pcd", encoding=Encoding.BINARY)
data = open("exact.pcd", "rb").read()
assert len(data.split(b"DATA binary\n")[1]) == 3 * 43
open("one-more.pcd", "wb").write(data + b"\0")
PYTHON

"$folder/devkit/bin/python" - <<'PYTHON'
from pathlib import Path

from nuscenes.utils.data_classes import RadarPointCloud

# The reader wants a comment in the first line, which the format makes optional.
for name in ("exact.pcd", "one-more.pcd"):
    data = Path(name).read_bytes()
    if not data.startswith(b"#"):
        Path(name).write_bytes(b"# .PCD v0.7\n" + data)
try:
    RadarPointCloud.from_file("exact.pcd")
except AssertionError as error:
    assert str(error) == "", error
    print("exact.pcd: AssertionError without a message")
else:
    raise SystemExit("changed: a file that ends with its last point opens")
points = RadarPointCloud.from_file("one-more.pcd").points
assert points.shape == (18, 3), points.shape
print("one-more.pcd:", points.shape[1], "points")
PYTHON
