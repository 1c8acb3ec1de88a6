"""What ``extract-teacher`` promises about what it writes, on a small simulated world."""

import itertools
import json
import os
import re
import shutil
from types import SimpleNamespace

import pytest
import torch

from crkd_core.artifacts.described import description_settings
from crkd_core.artifacts.manifest import read_manifest, record_file
from crkd_core.artifacts.shards import TensorShards, read_shard, shard_name, write_index, write_shard
from crkd_core.artifacts.tables import read_table
from crkd_core.artifacts.workspace import Artifact
from crkd_core.config.loading import load_config
from crkd_core.data.dataset import SampleDataset
from crkd_core.data.loader import LoaderOptions, load_batches
from crkd_core.datasets.prepared.source import open_prepared
from crkd_core.errors import ConfigError, DamagedArtifactError, StaleArtifactError, WriteError
from crkd_core.evaluation.inference import detect
from crkd_core.evaluation.io.detections import Detections
from crkd_core.evaluation.nuscenes.metrics import Metrics
from crkd_core.models.decode import SampleDetections
from crkd_core.progress import SilentProgress
from crkd_core.stages.distill import DistillRequest, distill
from crkd_core.stages.extract_teacher import ExtractRequest, extract_teacher
from crkd_core.stages.train_teacher import TrainTeacherRequest, train_teacher
from crkd_core.teacher_cache.extraction import Extraction
from crkd_core.teacher_cache.sources import FrozenTeacher
from crkd_core.teacher_cache.teacher_input import StoredTeacher
from crkd_core.teacher_cache.teacher_score import DETECTIONS_NAME
from crkd_core.training.trained import WEIGHTS_NAME, load_trained
from tests.support.chain import CHAIN_OVERRIDES, files_of
from tests.support.described import NUSCENES, TASKS, THREE
from tests.support.kills import KillingProgress

SILENT = SilentProgress()


class Notes(SilentProgress):
    """Remembers what was said."""

    def __init__(self):
        self.said, self.warned = [], []

    def message(self, text):
        self.said.append(text)

    def warning(self, text):
        self.warned.append(text)


def targets_of(workspace, name=None):
    return workspace.find("extract-teacher", name, needed_for="test", make="")


def prepared_of(chain):
    return open_prepared(chain.workspace, None, None, chain.config.data, ("camera", "lidar", "radar"), "test")


def rewrite(artifact, change):
    """Change an item of the first shard as somebody would who also mends index and checksums."""
    path = artifact.file(shard_name(0))
    items = dict(read_shard(path))
    key = next(iter(items))
    items[key] = change(items[key])
    write_shard(path, items)
    write_index(artifact.path, [shard_name(n) for n in range(artifact.manifest.facts["shards"])])
    files = {name: record_file(artifact.file(name)) for name in artifact.manifest.files}
    manifest = artifact.manifest.model_copy(update={"files": files})
    (artifact.path / "manifest.json").write_text(manifest.sealed().model_dump_json())
    return key


def test_it_says_before_it_starts_what_it_will_write(chain, tmp_path):
    copy, notes = chain.copy(tmp_path), Notes()
    result = extract_teacher(ExtractRequest(copy.config, name="again"), copy.workspace, notes)
    (text,) = notes.said
    assert text.startswith("writing 8 items (4 samples x 2 views) in 3 shards to ")
    assert re.search(r": about [\d.]+ [kM]B \([\d.]+ [kM]B each\), in about \d+:\d\d on 1 process$", text)
    assert result.items == 8


def test_the_estimate_does_not_count_what_is_there(chain, tmp_path):
    copy, notes = chain.copy(tmp_path), Notes()
    with pytest.raises(KeyboardInterrupt):
        extract_teacher(ExtractRequest(copy.config, name="again"), copy.workspace, KillingProgress(5))
    extract_teacher(ExtractRequest(copy.config, name="again"), copy.workspace, notes)
    assert notes.said[0].startswith("writing 5 items (4 samples x 2 views, 3 already there) in 2 shards to ")


def test_too_small_a_disk_is_refused_before_anything_is_written(chain, tmp_path, monkeypatch):
    copy = chain.copy(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1_000_000))
    with pytest.raises(WriteError, match=r"need about \d.* and the disk of .* has 1.0 MB left"):
        extract_teacher(ExtractRequest(copy.config, name="again"), copy.workspace, SILENT)
    assert not list((copy.workspace.root / "extract-teacher" / "again.partial").glob("*.safetensors"))


@pytest.mark.parametrize("storage", ["fp32", "int8"])
def test_verified_targets_do_not_deviate(chain, tmp_path, storage):
    copy = chain.copy(tmp_path)
    config = load_config("tiny", None, [*CHAIN_OVERRIDES, f"distill.targets.storage={storage}"])
    result = extract_teacher(ExtractRequest(config, name="checked", verify=100), copy.workspace, SILENT)
    assert result.verification.items == 8
    assert result.verification.largest_deviation == 0
    again = extract_teacher(ExtractRequest(config, name="checked", verify=2), copy.workspace, SILENT)
    assert again.reused
    assert again.verification.items == 2


def test_verification_finds_targets_that_are_not_the_teacher_s(chain, tmp_path):
    copy = chain.copy(tmp_path)

    def tamper(item):
        return item | {"msfd.fused.features": item["msfd.fused.features"] * 1.05}

    key = rewrite(targets_of(copy.workspace), tamper)
    with pytest.raises(DamagedArtifactError, match=rf"view {key.view} of sample {key.token} .* 5\.0% in the fused"):
        extract_teacher(ExtractRequest(copy.config, verify=8), copy.workspace, SILENT)


def test_verification_finds_another_augmentation(chain, tmp_path):
    copy = chain.copy(tmp_path)
    rewrite(targets_of(copy.workspace), lambda item: item | {"view.flip": ~item["view.flip"]})
    with pytest.raises(DamagedArtifactError, match="another augmentation than its seed gives"):
        extract_teacher(ExtractRequest(copy.config, verify=8), copy.workspace, SILENT)


def test_verification_reads_every_byte(chain, tmp_path):
    copy = chain.copy(tmp_path)
    path = targets_of(copy.workspace).file(shard_name(1))
    flip_a_bit(path)
    with pytest.raises(DamagedArtifactError, match=r"shard-00001.*checksum"):
        extract_teacher(ExtractRequest(copy.config, verify=1), copy.workspace, SILENT)


def flip_a_bit(path):
    """Change the middle byte of a file, whose size and time stay."""
    status, content = path.stat(), bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize("file", [WEIGHTS_NAME, "config.yaml"])
def test_a_teacher_whose_weights_or_configuration_changed_is_refused(chain, tmp_path, file):
    copy = chain.copy(tmp_path)
    teacher = copy.workspace.find("train-teacher", needed_for="test", make="")
    flip_a_bit(teacher.file(file))
    for request in (ExtractRequest(copy.config), ExtractRequest(copy.config, name="new")):
        with pytest.raises(DamagedArtifactError, match=f"{file}.*checksum differs"):
            extract_teacher(request, copy.workspace, SILENT)


def test_an_extraction_does_not_continue_with_another_teacher(chain, tmp_path):
    copy = chain.copy(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        extract_teacher(ExtractRequest(copy.config, name="again"), copy.workspace, KillingProgress(5))
    finished = targets_of(copy.workspace)
    other = load_config("tiny", None, [*CHAIN_OVERRIDES, "train.seed=1"])
    train_teacher(TrainTeacherRequest(other, force=True), copy.workspace, SILENT)
    with pytest.raises(StaleArtifactError, match="unfinished extract-teacher/again with other settings or inputs"):
        extract_teacher(ExtractRequest(copy.config, name="again"), copy.workspace, SILENT)
    with pytest.raises(StaleArtifactError, match=r"targets exists .* teacher train-teacher/teacher \(remade\)"):
        extract_teacher(ExtractRequest(copy.config), copy.workspace, SILENT)
    renewed = extract_teacher(ExtractRequest(copy.config, force=True), copy.workspace, SILENT).artifact
    assert files_of(renewed).keys() == files_of(finished).keys()
    assert files_of(renewed)[shard_name(0)] != files_of(finished)[shard_name(0)]


def test_a_teacher_of_numbers_that_are_none_is_refused(chain, tmp_path, monkeypatch):
    copy = chain.copy(tmp_path)
    original = FrozenTeacher.output

    def broken(self, batch):
        output = original(self, batch)
        output.head.tasks[3].velocity.mul_(float("nan"))
        return output

    monkeypatch.setattr(FrozenTeacher, "output", broken)
    with pytest.raises(DamagedArtifactError, match="train-teacher/teacher answers with values that are not finite"):
        extract_teacher(ExtractRequest(copy.config, name="again"), copy.workspace, SILENT)


def test_the_teacher_s_detections_are_those_of_its_first_view(chain):
    """Also: a table of its own is all that is left of the shards' parts."""
    targets, prepared, config = targets_of(chain.workspace), prepared_of(chain), chain.config
    assert [name for name in targets.manifest.files if "detections" in name] == [DETECTIONS_NAME]
    assert sorted(path.name for path in targets.path.glob("*detections*")) == [DETECTIONS_NAME]
    teacher = load_trained(chain.workspace.find("train-teacher", needed_for="test", make=""))
    tokens, view = prepared.tokens("train"), config.data.augment_student
    dataset = SampleDataset(prepared, tokens, config.data, ("camera", "lidar"), bev=view, seed=0)
    loader = load_batches(dataset, [[(0, 0), (1, 0)], [(2, 0), (3, 0)]], LoaderOptions(0), torch.device("cpu"))
    nms = teacher.detector_config.head.nms
    cpu = torch.device("cpu")
    stored = Detections(read_table(targets, DETECTIONS_NAME))
    detected = detect(teacher.detector, loader, config.data.grid.build(), nms, TASKS, cpu, "fp32")
    for token, detections in itertools.chain.from_iterable(detected):
        order = detections.scores.argsort(descending=True, stable=True)
        sample = stored.sample(token)
        assert len(sample.scores) == len(order)
        torch.testing.assert_close(sample.scores, detections.scores[order], rtol=1e-4, atol=1e-6)
    assert 0 <= targets.manifest.facts["teacher_mean_ap"] <= 1


def test_a_good_teacher_is_scored_as_one_and_a_poor_one_is_warned_of(chain, tmp_path, monkeypatch):
    copy, prepared = chain.copy(tmp_path), prepared_of(chain)
    notes = Notes()
    distill(DistillRequest(copy.config, name="warned"), copy.workspace, notes)
    assert any("the teacher of extract-teacher/targets hardly finds anything" in text for text in notes.warned)

    def all_seeing(self, output, batch):
        truths = [(token, prepared.annotations(token)) for token, view in zip(batch.tokens, batch.views) if view == 0]
        return [(token, SampleDetections(t.boxes, torch.ones(len(t.labels)), t.labels.long())) for token, t in truths]

    monkeypatch.setattr(Extraction, "_detect", all_seeing)
    notes = Notes()
    result = extract_teacher(ExtractRequest(copy.config, name="good"), copy.workspace, notes)
    present = {int(label) for token in prepared.tokens("train") for label in prepared.classes_in(token)}
    assert 0.8 * len(present) / 10 < result.teacher_mean_ap <= len(present) / 10
    assert not notes.warned
    stored = Metrics.from_json(json.loads(result.artifact.file("teacher_metrics.json").read_text()), NUSCENES)
    assert stored.mean_ap == result.teacher_mean_ap == result.artifact.manifest.facts["teacher_mean_ap"]


def test_the_student_goes_through_views_and_their_mirrorings(chain, tmp_path, monkeypatch):
    copy = chain.copy(tmp_path)
    config = load_config(
        "tiny", None, [*CHAIN_OVERRIDES, "distill.targets.flips=true", "train.distill.epochs=9", "train.workers=0"]
    )
    shown = []
    original = SampleDataset.__getitem__

    def remember(self, key):
        sample = original(self, key)
        shown.append((sample.view, sample.mirrored))
        return sample

    monkeypatch.setattr(SampleDataset, "__getitem__", remember)
    distill(DistillRequest(config, losses=("csrd",), name="mirrored"), copy.workspace, SILENT)
    as_stored, in_x, in_y, in_both = (False, False), (True, False), (False, True), (True, True)
    epochs = [shown[start] for start in range(0, 36, 4)]
    assert epochs == [
        (0, as_stored), (1, as_stored), (2, in_x), (3, in_x), (4, in_y), (5, in_y), (6, in_both), (7, in_both),
        (0, as_stored),
    ]  # fmt: skip
    assert len(shown) == 36


def test_views_of_a_grid_that_is_not_symmetric_cannot_be_mirrored(chain):
    uneven = [*CHAIN_OVERRIDES, "distill.targets.flips=true", "data.grid.x_range_m=[-24.0, 48.0]"]
    config = load_config("tiny", None, uneven)
    artifact = targets_of(chain.workspace)
    settings = {**artifact.manifest.settings, "grid": config.data.grid.model_dump(mode="json")}
    manifest = artifact.manifest.model_copy(update={"settings": settings})
    teacher = StoredTeacher(Artifact(artifact.path, manifest), config, chain.workspace)
    with pytest.raises(ConfigError, match=r"must be symmetric, found x from -24\.0 to 48\.0 m"):
        teacher.check_fits(prepared_of(chain), prepared_of(chain).tokens("train"), "train")


def test_targets_of_the_same_tables_described_otherwise_are_refused(chain):
    artifact, prepared = targets_of(chain.workspace), prepared_of(chain)
    settings = artifact.manifest.settings | description_settings(THREE)
    manifest = artifact.manifest.model_copy(update={"settings": settings})
    teacher = StoredTeacher(Artifact(artifact.path, manifest), chain.config, chain.workspace)
    words = (
        rf"{artifact.label} was made of shuttle, and {prepared.artifact.label} is nuScenes \(classes: person, van, pole"
    )
    with pytest.raises(StaleArtifactError, match=words):
        teacher.check_fits(prepared, prepared.tokens("train"), "train")


def test_targets_are_read_back_by_key_in_any_order(chain):
    shards = TensorShards(targets_of(chain.workspace))
    tokens = prepared_of(chain).tokens("train")
    assert (len(shards), shards.views) == (8, 2)
    keys = shards.keys()
    assert {(key.token, key.view) for key in keys} == {(token, view) for token in tokens for view in (0, 1)}
    assert read_manifest(targets_of(chain.workspace).path).facts["items"] == 8
