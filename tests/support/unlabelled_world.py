"""A data set like the published test version: without annotations."""

import json
from pathlib import Path

from tests.support.chain import Chain

TEST_VERSION = "v1.0-sim-test"


def write_test_world(chain: Chain, folder: Path) -> Path:
    """The simulated world as nuScenes publishes its test version: official scene names, and nothing annotated."""
    world = chain.copy_world(folder)
    (version,) = (path for path in world.iterdir() if path.name.startswith("v1.0"))
    tables = version.rename(world / TEST_VERSION)
    scenes = json.loads((tables / "scene.json").read_text())
    for scene, name in zip(scenes, ("scene-0077", "scene-0078", "scene-0079", "scene-0080", "scene-0081")):
        scene["name"] = name
    (tables / "scene.json").write_text(json.dumps(scenes))
    for table in ("sample_annotation", "instance"):
        (tables / f"{table}.json").write_text("[]")
    return world
