"""The stages one after another: what they promise about each other, on a small simulated world."""

import json
import shutil

import pyarrow.parquet as pq
import pytest
import torch

from crkd_core.artifacts.configuration import resolve_nms
from crkd_core.artifacts.shards import TensorShards, read_tensors
from crkd_core.artifacts.workspace import Workspace
from crkd_core.config.distill import LOSS_NAMES
from crkd_core.config.loading import load_config, with_overrides
from crkd_core.data.dataset import SampleDataset
from crkd_core.data.samples import collate
from crkd_core.datasets.prepared.source import open_prepared
from crkd_core.distillation.objective import build_objective
from crkd_core.errors import ConfigError, MissingArtifactError, StaleArtifactError, UsageError
from crkd_core.models.detector import build_detector
from crkd_core.progress import SilentProgress
from crkd_core.stages.distill import DistillRequest, distill
from crkd_core.stages.extract_teacher import ExtractRequest, extract_teacher
from crkd_core.stages.train_teacher import TrainTeacherRequest, train_teacher
from crkd_core.teacher_cache.sources import FrozenTeacher, StoredTargets
from crkd_core.training.steps import DistillationStep
from crkd_core.training.trained import WEIGHTS_NAME, load_trained
from tests.support.chain import CHAIN_OVERRIDES, files_of
from tests.support.described import TASKS
from tests.support.kills import KillingProgress

SILENT = SilentProgress()


def weights(workspace, stage, name):
    artifact = workspace.find(stage, name, needed_for="test", make="nothing")
    return read_tensors(artifact, WEIGHTS_NAME)


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_equal_requests_are_reused(chain):
    result = train_teacher(TrainTeacherRequest(chain.config), chain.workspace, SILENT)
    assert result.reused
    assert extract_teacher(ExtractRequest(chain.config), chain.workspace, SILENT).reused
    assert distill(DistillRequest(chain.config), chain.workspace, SILENT).reused


def test_distilled_student_starts_from_the_plain_one_and_moves(chain):
    manifest = chain.workspace.find("distill", "crkd", needed_for="test", make="").manifest
    assert manifest.inputs["start"].name == "plain"
    plain, crkd = (weights(chain.workspace, "distill", name) for name in ("plain", "crkd"))
    new = {name for name in crkd if name not in plain}
    assert new
    assert all(name.startswith(("radar.calibration.", "radar.activation.")) for name in new)
    assert not same(plain, {name: crkd[name] for name in plain})
    assert set(manifest.facts["final"]) >= {f"loss/{term}" for term in ("csrd", "msfd_fused", "reld", "respd")}


@pytest.mark.parametrize("killed_after", [0, 1, 3])
def test_a_killed_distillation_continues_to_the_same_weights(chain, tmp_path, killed_after):
    copy = chain.copy(tmp_path)
    expected = weights(copy.workspace, "distill", "crkd")
    with pytest.raises(KeyboardInterrupt):
        distill(DistillRequest(copy.config, name="again"), copy.workspace, KillingProgress(killed_after))
    assert copy.workspace.partial_names("distill") == ["again"]
    distill(DistillRequest(copy.config, name="again"), copy.workspace, SILENT)
    assert same(expected, weights(copy.workspace, "distill", "again"))
    assert copy.workspace.partial_names("distill") == []


def test_a_killed_extraction_continues_to_the_same_bytes(chain, tmp_path):
    copy = chain.copy(tmp_path)
    whole = copy.workspace.find("extract-teacher", needed_for="test", make="")
    with pytest.raises(KeyboardInterrupt):
        extract_teacher(ExtractRequest(copy.config, name="again"), copy.workspace, KillingProgress(5))
    partial = copy.workspace.root / "extract-teacher" / "again.partial"
    finished = {path.name: path.stat().st_mtime_ns for path in partial.glob("*.safetensors")}
    assert finished
    result = extract_teacher(ExtractRequest(copy.config, name="again"), copy.workspace, SILENT)
    assert files_of(result.artifact) == files_of(whole)
    kept = {name: result.artifact.file(name).stat().st_mtime_ns for name in finished}
    assert kept == finished


def test_cached_targets_give_the_live_teachers_losses_and_gradients(chain):
    config, grid = chain.config, chain.config.data.grid.build()
    prepared = open_prepared(chain.workspace, None, None, config.data, ("camera", "lidar", "radar"), "test")
    shards = TensorShards(chain.workspace.find("extract-teacher", needed_for="test", make=""))
    tokens = prepared.tokens("train")
    teacher = load_trained(chain.workspace.find("train-teacher", needed_for="test", make=""))
    results = []
    for stored in (True, False):
        dataset = SampleDataset(
            prepared,
            tokens,
            config.data,
            ("camera", "radar") if stored else ("camera", "lidar", "radar"),
            bev=config.data.augment_student,
            seed=config.train.seed,
            targets=shards if stored else None,
        )
        torch.manual_seed(0)
        student = build_detector(config.student, config.data, TASKS).eval()
        objective = build_objective(config.distill, grid, student.fused_channels, config.student, config.teacher)
        source = StoredTargets(torch.device("cpu")) if stored else FrozenTeacher(teacher.detector, grid, config.distill)
        step = DistillationStep(student, config.student.head, grid, TASKS, objective, source)
        terms = step(collate([dataset[(index, 1)] for index in (0, 2, 3)]))
        sum(terms.values()).backward()
        gradients = {name: p.grad for name, p in step.named_parameters() if p.grad is not None}
        results.append((terms, gradients))
    (cached, cached_gradients), (live, live_gradients) = results
    assert cached.keys() == live.keys()
    for name in live:
        torch.testing.assert_close(cached[name], live[name], rtol=2e-6, atol=0, msg=name)
    assert cached_gradients.keys() == live_gradients.keys()
    # Rounding turns the sign of an absolute difference in a cell now and then, which loss values do not show.
    for name, gradient in live_gradients.items():
        difference = (cached_gradients[name] - gradient).norm()
        assert difference <= 1e-3 * gradient.norm() + 1e-9, name


def test_lidar_files_are_never_opened_while_distilling_from_the_cache(chain, tmp_path):
    copy = chain.copy(tmp_path)
    world = chain.copy_world(tmp_path)
    for folder in ("samples", "sweeps"):
        shutil.rmtree(world / folder / "LIDAR_TOP")
    result = distill(DistillRequest(copy.config, name="blind", nuscenes=world), copy.workspace, SILENT)
    assert same(weights(copy.workspace, "distill", "crkd"), weights(copy.workspace, "distill", "blind"))
    assert result.steps == 4


def test_the_teacher_is_bit_equal_after_an_online_distillation(chain, tmp_path, monkeypatch):
    copy = chain.copy(tmp_path)
    kept = []
    original = FrozenTeacher.__init__

    def remember(self, detector, *arguments, **options):
        kept.append((detector, {name: tensor.clone() for name, tensor in detector.state_dict().items()}))
        original(self, detector, *arguments, **options)

    monkeypatch.setattr(FrozenTeacher, "__init__", remember)
    distill(DistillRequest(copy.config, teacher="online", name="live"), copy.workspace, SILENT)
    (detector, before), *_ = kept
    assert not detector.training
    assert same(before, detector.state_dict())
    assert all(parameter.grad is None for parameter in detector.parameters())


def test_losses_stop_when_the_configuration_says_so_also_in_a_continued_run(chain, tmp_path):
    copy = chain.copy(tmp_path)
    config = with_overrides(copy.config, ["distill.until=0.75"])
    with pytest.raises(KeyboardInterrupt):
        distill(DistillRequest(config, name="until"), copy.workspace, KillingProgress(2))
    result = distill(DistillRequest(config, name="until"), copy.workspace, SILENT)
    rows = pq.read_table(result.artifact.file("logs/metrics.parquet")).to_pylist()
    steps = {name: [row["step"] for row in rows if row["name"] == f"loss/{name}"] for name in ("total", "respd")}
    assert steps == {"total": [0, 1, 2, 3], "respd": [0, 1, 2]}
    assert not same(weights(copy.workspace, "distill", "crkd"), weights(copy.workspace, "distill", "until"))


@pytest.mark.parametrize("loss", LOSS_NAMES)
def test_each_loss_alone_trains(chain, tmp_path, loss):
    copy = chain.copy(tmp_path)
    result = distill(DistillRequest(copy.config, losses=(loss,)), copy.workspace, SILENT)
    assert result.artifact.name == f"crkd-{loss}"
    named = {name.removeprefix("loss/").split("_")[0] for name in result.losses} & set(LOSS_NAMES)
    assert named == {loss}


def test_control_has_the_distilled_students_architecture_and_epochs(chain, tmp_path):
    copy = chain.copy(tmp_path)
    control = distill(DistillRequest(copy.config, losses=(), init="plain"), copy.workspace, SILENT)
    crkd = copy.workspace.find("distill", "crkd", needed_for="test", make="").manifest
    assert control.artifact.name == "control"
    assert control.artifact.manifest.settings["detector"] == crkd.settings["detector"]
    assert control.steps == crkd.facts["steps"]


def test_targets_of_another_teacher_are_stale(chain, tmp_path):
    copy = chain.copy(tmp_path)
    other = load_config("tiny", None, [*CHAIN_OVERRIDES, "train.seed=1"])
    train_teacher(TrainTeacherRequest(other, force=True), copy.workspace, SILENT)
    with pytest.raises(StaleArtifactError, match="teacher train-teacher/teacher has been remade"):
        distill(DistillRequest(copy.config, name="again"), copy.workspace, SILENT)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("data.grid.x_range_m=[-42, 42]", "grid"),
        ("distill.msfd.mask=released", "msfd"),
        ("distill.reld.scales=[16, 8]", "reld_scales"),
        ("data.augment_student.flip_x=false", "augmentation"),
    ],
)
def test_targets_for_other_settings_are_refused(chain, override, words):
    config = load_config("tiny", None, [*CHAIN_OVERRIDES, override])
    with pytest.raises(StaleArtifactError, match=words):
        distill(DistillRequest(config, name="again"), chain.workspace, SILENT)
    assert "again" not in chain.workspace.partial_names("distill")


def test_one_extraction_serves_students_of_every_seed(chain, tmp_path):
    copy = chain.copy(tmp_path)
    config = load_config("tiny", None, [*CHAIN_OVERRIDES, "train.seed=3"])
    assert extract_teacher(ExtractRequest(config), copy.workspace, SILENT).reused
    for seed, run in enumerate((copy.config, config)):
        distill(DistillRequest(run, losses=("respd",), name=f"seed-{seed}"), copy.workspace, SILENT)
    assert not same(*(weights(copy.workspace, "distill", f"seed-{seed}") for seed in (0, 1)))


def test_msfd_with_an_adapter_learns_from_the_same_targets(chain, tmp_path):
    copy = chain.copy(tmp_path)
    config = load_config("tiny", None, [*CHAIN_OVERRIDES, "distill.msfd.adapter=true"])
    adapted = distill(DistillRequest(config, losses=("msfd",), name="adapted"), copy.workspace, SILENT)
    plain = distill(DistillRequest(copy.config, losses=("msfd",), name="not-adapted"), copy.workspace, SILENT)
    students = [read_tensors(run.artifact, WEIGHTS_NAME) for run in (adapted, plain)]
    assert students[0].keys() == students[1].keys()
    assert not same(*students)


def test_targets_without_a_loss_are_refused(chain, tmp_path):
    copy = chain.copy(tmp_path)
    config = load_config("tiny", None, [*CHAIN_OVERRIDES, "distill.losses=[respd]"])
    extract_teacher(ExtractRequest(config, name="few"), copy.workspace, SILENT)
    with pytest.raises(StaleArtifactError, match="nothing for the losses csrd"):
        distill(DistillRequest(copy.config, targets="few", name="again"), copy.workspace, SILENT)
    distill(DistillRequest(config, targets="few", losses=("respd",)), copy.workspace, SILENT)


def test_targets_made_with_a_weight_of_0_do_not_serve_students_that_need_the_part(chain, tmp_path):
    copy = chain.copy(tmp_path)
    without = with_overrides(copy.config, ["distill.msfd.camera_weight=0"])
    extract_teacher(ExtractRequest(without, name="few"), copy.workspace, SILENT)
    with pytest.raises(StaleArtifactError, match=r"extract-teacher/few holds no msfd\.camera, whose weight was 0 .*"):
        distill(DistillRequest(copy.config, targets="few", name="a"), copy.workspace, SILENT)
    assert distill(DistillRequest(without, targets="few", name="b"), copy.workspace, SILENT) is not None


def test_a_start_of_another_detector_is_refused(chain, tmp_path):
    copy = chain.copy(tmp_path)
    config = load_config("tiny", None, [*CHAIN_OVERRIDES, "student.decoder.channels=[32, 64, 96]"])
    with pytest.raises(StaleArtifactError, match=r"distill/plain cannot start this student: it was another detector"):
        distill(DistillRequest(config, name="again"), copy.workspace, SILENT)


@pytest.mark.parametrize(
    "request_", [{"name": "plain"}, {"losses": (), "init": "control"}], ids=["by its name", "by its default name"]
)
def test_a_student_cannot_start_from_itself(chain, tmp_path, request_):
    copy = chain.copy(tmp_path)
    with pytest.raises(UsageError, match="cannot start from itself; give the new run another name"):
        distill(DistillRequest(copy.config, force=True, **request_), copy.workspace, SILENT)


def test_a_teacher_goes_on_from_another(chain, tmp_path):
    copy, before = chain.copy(tmp_path), weights(chain.workspace, "train-teacher", "teacher")
    still = load_config("tiny", None, [*CHAIN_OVERRIDES, "train.teacher.learning_rate=1e-12", "train.weight_decay=0"])
    more = train_teacher(TrainTeacherRequest(still, name="more", init="teacher"), copy.workspace, SILENT)
    new = train_teacher(TrainTeacherRequest(still, name="new"), copy.workspace, SILENT)
    assert more.artifact.manifest.inputs["start"].name == "teacher"
    assert "start" not in new.artifact.manifest.inputs
    assert "--init teacher" in more.artifact.manifest.command
    parameters = {key for key, _ in load_trained(more.artifact).detector.named_parameters()}
    continued, fresh = (read_tensors(run.artifact, WEIGHTS_NAME) for run in (more, new))
    assert all(torch.allclose(continued[key], before[key], atol=1e-6) for key in parameters)
    assert not all(torch.allclose(fresh[key], before[key], atol=1e-6) for key in parameters)


def test_a_teacher_that_cannot_go_on_says_why(chain, tmp_path):
    copy = chain.copy(tmp_path)
    with pytest.raises(UsageError, match="cannot start from itself; give the new run another name"):
        train_teacher(TrainTeacherRequest(copy.config, init="teacher"), copy.workspace, SILENT)
    with pytest.raises(MissingArtifactError, match="crkd train-teacher --name earlier"):
        train_teacher(TrainTeacherRequest(copy.config, init="earlier"), copy.workspace, SILENT)
    wider = load_config("tiny", None, [*CHAIN_OVERRIDES, "teacher.head.shared_channels=32"])
    with pytest.raises(StaleArtifactError, match=r"train-teacher/teacher cannot start this teacher: .*another shape"):
        train_teacher(TrainTeacherRequest(wider, name="wider", init="teacher"), copy.workspace, SILENT)


def test_more_sweeps_than_prepared_are_refused(chain):
    config = load_config("tiny", None, [*CHAIN_OVERRIDES, "data.radar.sweeps=20"])
    with pytest.raises(ConfigError, match="prepared with 6"):
        train_teacher(
            TrainTeacherRequest(config.model_copy(update={"teacher": config.student}), name="x"),
            chain.workspace,
            SILENT,
        )


def test_unknown_losses_are_refused(chain):
    with pytest.raises(UsageError, match="no loss called 'csdr'"):
        distill(DistillRequest(chain.config, losses=("csdr",)), chain.workspace, SILENT)


def test_plan_measures_and_writes_nothing(chain, tmp_path):
    copy = chain.copy(tmp_path)
    shutil.rmtree(copy.workspace.root / "extract-teacher")
    result = extract_teacher(ExtractRequest(copy.config, plan=True), copy.workspace, SILENT)
    assert result.artifact is None
    assert result.items == 8
    facts = chain.workspace.find("extract-teacher", needed_for="test", make="").manifest.facts
    assert result.bytes_total == pytest.approx(facts["bytes"], rel=0.3)
    assert not (copy.workspace.root / "extract-teacher").exists()


def test_a_moved_workspace_still_works(chain, tmp_path):
    copy = chain.copy(tmp_path)
    moved = tmp_path / "elsewhere"
    shutil.move(copy.workspace.root, moved)
    assert extract_teacher(ExtractRequest(chain.config), Workspace(moved), SILENT).reused


def test_run_folder_holds_config_metrics_and_manifest(chain):
    artifact = chain.workspace.find("distill", "crkd", needed_for="test", make="")
    assert load_config(None, artifact.file("config.yaml")) == chain.config
    manifest = json.loads((artifact.path / "manifest.json").read_text())
    assert {"prepared", "targets", "start"} == set(manifest["inputs"])
    assert "logs/metrics.parquet" in manifest["files"]
    assert not (artifact.path / "checkpoint.safetensors").exists()


def test_box_selection_of_a_trained_model_can_be_changed_and_nothing_else(chain):
    model = chain.workspace.find("distill", "crkd", needed_for="test", make="")
    assert resolve_nms(model) is None
    changed = resolve_nms(model, overrides=["student.head.nms.score_threshold=0.05"])
    assert changed == chain.config.student.head.nms.model_copy(update={"score_threshold": 0.05})
    with pytest.raises(ConfigError, match=r"only student\.head\.nms"):
        resolve_nms(model, overrides=["student.fuser.channels=16", "teacher.fuser.channels=16"])
