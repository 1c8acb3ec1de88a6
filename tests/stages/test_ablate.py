"""Ablations: every student trained once, seeds beside each other, and nothing done twice after a kill."""

import csv
import json
import math
from dataclasses import replace

import pytest

import crkd_core.stages.ablate.ablate as module
from crkd_core.artifacts.atomic import write_text
from crkd_core.artifacts.writer import ArtifactRequest
from crkd_core.config.distill import LOSS_NAMES
from crkd_core.config.loading import load_config, preset_names, with_overrides
from crkd_core.errors import ConfigError, UsageError
from crkd_core.evaluation.nuscenes.metrics import Metrics, TPErrors
from crkd_core.progress import SilentProgress
from crkd_core.stages.ablate.ablate import ablate, plan_ablation
from crkd_core.stages.ablate.checks import check_ablation
from crkd_core.stages.ablate.request import AblateRequest
from crkd_core.stages.ablate.rows import BACKBONES, COMPARISONS, METRICS, canonical, ladder_rows
from crkd_core.stages.ablate.scored_row import ScoredRow
from crkd_core.stages.ablate.table import write_tables
from crkd_core.stages.ablate.variants import CONTROL, distilled
from crkd_core.stages.evaluate import EvaluateResult
from tests.support.described import NUSCENES

SILENT = SilentProgress()
RESPD, CRKD = distilled(("respd",)), distilled(("respd", "csrd", "msfd", "reld"))
LADDER = ("conv", "gated", "control", "respd", "respd-csrd", "respd-csrd-msfd", "respd-csrd-msfd-reld")


def metrics(mean_ap: float, velocity: float = 0.5) -> Metrics:
    return Metrics(mean_ap, mean_ap / 2, TPErrors(0.4, 0.3, 0.2, velocity, math.nan), {}, NUSCENES)


class Stages:
    """Stands in for training, extraction and scoring: artifacts without models, which count how often they are made."""

    def __init__(self, monkeypatch, dies_at: int | None = None) -> None:
        self.requests, self.extractions, self._dies_at = [], [], dies_at
        for stage in ("distill", "evaluate", "extract_teacher"):
            monkeypatch.setattr(module, stage, getattr(self, stage))

    def _write(self, workspace, stage, name, inputs, settings):
        with workspace.write(ArtifactRequest(stage, name, command="", settings=settings, inputs=inputs)) as writer:
            if writer.finished is None:
                write_text(writer.path / "file.txt", name)
            return writer.finished or writer.finish({"model": name, "split": "val"})

    def distill(self, request, workspace, progress):
        if len(self.requests) == self._dies_at:
            raise KeyboardInterrupt
        start = next((a for a in workspace.artifacts("distill") if a.name == request.init), None)
        assert (start is None) == (request.init == "none")
        inputs = {} if start is None else {"start": start.reference()}
        there = len(workspace.artifacts("distill"))
        self._write(workspace, "distill", request.name, inputs, {"losses": request.losses})
        if len(workspace.artifacts("distill")) > there:
            self.requests.append(request)

    def extract_teacher(self, request, workspace, progress):
        self.extractions.append(request)

    def evaluate(self, request, workspace, progress):
        name = request.model.rpartition("/")[2]
        model = next(a for a in workspace.artifacts("distill") if a.name == name)
        artifact = self._write(workspace, "evaluate", f"{name}-{request.split}", {"model": model.reference()}, {})
        return EvaluateResult(artifact, name, "val", metrics(0.1 + int(name[-1]) / 10))


def test_the_ladder_trains_every_student_once_for_every_seed_and_continues_after_a_kill(chain, tmp_path, monkeypatch):
    copy = chain.copy(tmp_path)
    request = AblateRequest(copy.config, ("ladder", "weights", "adapter"), seeds=(0, 1))
    first = Stages(monkeypatch, dies_at=9)
    with pytest.raises(KeyboardInterrupt):
        ablate(request, copy.workspace, SILENT)
    second = Stages(monkeypatch)
    result = ablate(request, copy.workspace, SILENT)
    trained = [request.name for request in first.requests + second.requests]
    others = ("respd-uniform", "respd-reld-bare", "respd-reld-adapted")
    assert trained == [f"ablate-{name}-s{seed}" for seed in (0, 1) for name in (*LADDER, *others)]
    assert not second.extractions, "the targets that are there serve all of them"
    for run in first.requests + second.requests:
        seed = run.name[-1]
        plain = run.name in (f"ablate-conv-s{seed}", f"ablate-gated-s{seed}")
        assert run.init == ("none" if plain else f"ablate-gated-s{seed}")
        assert run.config.train.seed == int(seed)
        assert run.config.student.fuser.kind == ("conv" if "conv" in run.name else "gated")
        assert run.targets == ("targets" if run.losses else None)
    assert len(result.rows) == len(LADDER) + 3 + 3
    assert [row.run for row in result.rows[:7]] == [f"ablate-{name}" for name in LADDER]
    assert result.rows[0].values["mAP"] == pytest.approx((0.1, 0.2))
    assert {run.trained for run in plan_ablation(request, copy.workspace)} == {"finished"}
    before = result.artifact.manifest.digest
    again = Stages(monkeypatch)
    assert ablate(request, copy.workspace, SILENT).artifact.manifest.digest == before
    assert not again.requests


def test_a_loss_that_the_paper_does_not_have_is_the_ladder_s_last_step():
    """Also: a comparison of the paper's losses goes on without it."""
    rows = ladder_rows((*LOSS_NAMES, "attention"))
    assert rows[:-1] == COMPARISONS["ladder"]
    assert rows[-1].title == "+ attention"
    assert rows[-1].variant.losses == (*CRKD.losses, "attention")
    assert not rows[-1].published
    assert COMPARISONS["summary"][-1].variant == CRKD


def test_elevation_is_compared_only_where_it_is_measured(chain):
    with pytest.raises(UsageError, match="radar-elevation needs radars that measure elevation, and those of prepare/"):
        check_ablation(AblateRequest(chain.config, ("radar-elevation",)), chain.workspace)


def test_rows_with_other_targets_have_them_extracted(chain, tmp_path, monkeypatch):
    copy = chain.copy(tmp_path)
    stages = Stages(monkeypatch)
    ablate(AblateRequest(copy.config, ("mask",), seeds=(0,)), copy.workspace, SILENT)
    extracted = {run.name: (run.config.distill.msfd.mask, run.config.distill.losses) for run in stages.extractions}
    assert extracted == {
        "ablate-respd-msfd-plain": ("plain", ("respd", "msfd")),
        "ablate-respd-msfd-scaled": ("released", ("respd", "msfd")),
    }
    assert [run.targets for run in stages.requests if "rotated" in run.name] == ["targets"]
    changed = with_overrides(copy.config, ["distill.reld.scales=[16, 8]"])
    stages = Stages(monkeypatch)
    ablate(AblateRequest(changed, ("affinity",), seeds=(3,)), copy.workspace, SILENT)
    assert {run.name for run in stages.extractions} == {"ablate-targets"}
    assert {run.config.distill.losses for run in stages.extractions} == {LOSS_NAMES}
    assert not any(run.force for run in stages.extractions)
    with copy.workspace.write(ArtifactRequest("extract-teacher", "ablate-targets", "", {})) as writer:
        writer.finish()
    stages = Stages(monkeypatch)
    ablate(AblateRequest(changed, ("affinity",), seeds=(4,)), copy.workspace, SILENT)
    assert all(run.force for run in stages.extractions), "targets of another teacher are made anew under their name"


def test_the_control_is_the_distilled_student_without_losses(chain):
    config = chain.config
    control, crkd = CONTROL.resolve(config, 2), CRKD.resolve(config, 2)
    assert with_overrides(control, [f"distill.losses=[{', '.join(CRKD.losses)}]"]) == crkd
    assert CONTROL.start == CRKD.start


def test_settings_of_the_second_training_leave_plain_students_alone(chain, tmp_path, monkeypatch):
    copy = chain.copy(tmp_path)
    after = ("student.head.velocity_beta_mps=0.5", "train.distill.epochs=7", "distill.msfd.mask=plain")
    request = AblateRequest(copy.config, ("mask",), seeds=(0,), set_after=after)
    epochs = {run.name: run.epochs for run in plan_ablation(request, copy.workspace)}
    assert epochs.pop("ablate-gated-s0") == copy.config.train.student.epochs
    assert set(epochs.values()) == {7}
    stages = Stages(monkeypatch)
    ablate(request, copy.workspace, SILENT)
    beta = copy.config.student.head.velocity_beta_mps
    for run in stages.requests:
        assert run.config.student.head.velocity_beta_mps == (beta if run.init == "none" else 0.5)
    masks = {run.name: run.config.distill.msfd.mask for run in stages.requests if "msfd" in run.name}
    assert masks["ablate-respd-msfd-scaled-s0"] == "released", "what a row is about wins"
    uniform = replace(request, comparisons=("weights",), set_after=("distill.respd.task_weights=[1, 1, 1, 1, 1, 1]",))
    names = {run.name for run in plan_ablation(uniform, copy.workspace)}
    assert "ablate-respd-uniform-s0" not in names, "by these settings it is the same student as with RespD"
    with pytest.raises(ConfigError, match="velocity_beta"):
        plan_ablation(replace(request, set_after=("student.head.velocity_beta_mps=-1",)), copy.workspace)
    with pytest.raises(ConfigError, match=r"^--set-after expects section\.field=value .*'steeper'"):
        plan_ablation(replace(request, set_after=("steeper",)), copy.workspace)


@pytest.mark.parametrize("preset", preset_names())
def test_every_row_is_a_valid_student_of_every_preset(preset):
    config = load_config(preset)
    students = {row.variant.name: row.variant for rows in COMPARISONS.values() for row in rows}
    resolved = {name: variant.resolve(config, 1) for name, variant in students.items()}
    assert all(widths.train.seed == 1 for widths in resolved.values())
    assert canonical(students["respd-dynamic"], config) == RESPD
    assert canonical(students["respd-uniform"], config) == students["respd-uniform"]
    if preset.startswith("paper"):
        student = resolved["widths-128"].student
        widths = (student.camera.view_transform.channels, student.radar.channels[-1], student.fuser.channels)
        assert widths == (128, 128, 256)
        assert resolved["widths-64"].student.fuser.channels == 64


def test_published_cells_are_plausible():
    rows = [row for rows in COMPARISONS.values() for row in rows]
    for row in rows:
        for backbone in BACKBONES:
            cells = row.paper(backbone)
            assert len(cells) in (0, 2, len(METRICS))
            assert not cells or 0.4 < cells["mAP"] < cells["NDS"] < 0.6
    published = {row.title: row.paper("Swin-T") for row in rows}
    assert published["+ RelD (CRKD)"]["mAVE"] == 0.331
    assert published["control, equal epochs"] == {}


def test_the_summary_is_the_ladder_without_the_rows_between():
    titles = [row.title for row in COMPARISONS["summary"]]
    assert titles == ["conv fuser", "gated fuser", "control, equal epochs", "+ RelD (CRKD)"]
    assert all(row in COMPARISONS["ladder"] for row in COMPARISONS["summary"])


def test_tables_have_mean_spread_seeds_and_published_cells(tmp_path):
    row = COMPARISONS["ladder"][1]
    values = dict.fromkeys(METRICS, (0.1, 0.2, 0.6)) | {"mAAE": (math.nan, 0.2, 0.3)}
    scored = ScoredRow("ladder", row, "ablate-gated", (0, 1, 5), values)
    single = replace(scored, row=COMPARISONS["ladder"][2], seeds=(0,), values=dict.fromkeys(METRICS, (0.1,)))
    write_tables(tmp_path, [scored, single], "Swin-T")
    first, second = json.loads((tmp_path / "table.json").read_text())
    assert first["metrics"]["mAP"]["mean"] == pytest.approx(0.3)
    assert first["metrics"]["mAP"]["standard_deviation"] == pytest.approx(math.sqrt((0.04 + 0.01 + 0.09) / 2))
    assert first["metrics"]["mAAE"] == {
        "mean": None,
        "standard_deviation": None,
        "per_seed": {"0": None, "1": 0.2, "5": 0.3},
    }
    assert (first["n"], first["published"]["ResNet-50"]) == (3, {"mAP": 0.417, "NDS": 0.535})
    assert second["metrics"]["NDS"]["standard_deviation"] is None
    lines = list(csv.DictReader((tmp_path / "table.csv").read_text().splitlines()))
    assert [line["mATE seed 5"] for line in lines] == ["0.6", ""]
    assert lines[0]["mAP published Swin-T"] == "0.449"
    markdown = (tmp_path / "table.md").read_text()
    assert "| gated fuser | 3 | 30.0 ± 26.5 |" in markdown
    assert "| 44.9 | 55.9 | 0.464 |" in markdown
    assert "| control, equal epochs | 1 | 10.0 | 10.0 | 0.100 |" in markdown


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"comparisons": ("leader",)}, "ladder.*leader"),
        ({"comparisons": ()}, "found none"),
        ({"seeds": ()}, "seeds"),
        ({"seeds": (1, 1)}, "1,1"),
        ({"seeds": (-1,)}, "from 0"),
        ({"split": "test"}, "not public"),
    ],
)
def test_requests_that_make_no_sense_are_refused(chain, changes, words):
    with pytest.raises(UsageError, match=words):
        plan_ablation(AblateRequest(chain.config, **changes), chain.workspace)
