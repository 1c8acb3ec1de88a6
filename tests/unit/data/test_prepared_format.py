"""Data that an earlier version prepared are refused, with the command that makes them anew."""

import json

import pytest

from crkd_core.artifacts.manifest import MANIFEST_NAME
from crkd_core.artifacts.prepared_format import FORMAT
from crkd_core.artifacts.workspace import Workspace
from crkd_core.config.loading import load_config
from crkd_core.datasets.prepared.prepared_data import PreparedData
from crkd_core.datasets.prepared.source import open_prepared
from crkd_core.errors import StaleArtifactError
from crkd_core.evaluation.nuscenes.columns import read_samples
from crkd_core.progress import SilentProgress
from crkd_core.stages.prepare import PrepareRequest, prepare
from tests.support.nuscenes_factory import write_folder


def test_an_older_format_is_refused(tmp_path):
    folder, workspace = write_folder(tmp_path / "data"), Workspace(tmp_path / "workspace")
    prepare(PrepareRequest(folder.root), workspace, SilentProgress())
    path = workspace.folder("prepare", folder.version) / MANIFEST_NAME
    manifest = json.loads(path.read_text())
    manifest["settings"]["format"] = FORMAT - 1
    del manifest["checksum"]
    path.write_text(json.dumps(manifest))
    words = rf"prepared in an older format .*with: crkd prepare --nuscenes {folder.root} .*--force"
    with pytest.raises(StaleArtifactError, match=words):
        open_prepared(workspace, None, None, load_config("tiny").data, ["camera"], "crkd train-teacher")
    prepared = PreparedData(workspace.artifacts("prepare")[0])
    with pytest.raises(StaleArtifactError, match=words):
        read_samples(prepared, prepared.tokens("train"))
