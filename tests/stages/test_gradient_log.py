"""Recording how the losses pull against each other changes nothing else, and can be drawn."""

import numpy as np
import pyarrow.parquet as pq
import pytest

from crkd_core.artifacts.shards import read_tensors
from crkd_core.config.loading import with_overrides
from crkd_core.progress import SilentProgress
from crkd_core.stages.distill import DistillRequest, distill
from crkd_core.training.metric_log import METRICS_NAME
from crkd_core.training.recorded_curves import read_curves
from crkd_core.training.trained import WEIGHTS_NAME
from crkd_core.visualization.report.contents import ReportModel
from crkd_core.visualization.report.trainings import training_section
from crkd_core.visualization.training_curves import RecordedTraining

FAMILIES = ["heatmap", "box", "csrd", "msfd_camera", "msfd_fused", "reld", "respd"]


@pytest.fixture(scope="module")
def watched(chain, tmp_path_factory):
    copy = chain.copy(tmp_path_factory.mktemp("watched"))
    config = with_overrides(copy.config, ["train.log_gradients=2"])
    return distill(DistillRequest(config, name="watched"), copy.workspace, SilentProgress()).artifact


def test_the_student_is_the_same_to_the_last_bit(chain, watched):
    plain = read_tensors(chain.workspace.find("distill", "crkd", needed_for="test", make=""), WEIGHTS_NAME)
    assert all(plain[name].equal(tensor) for name, tensor in read_tensors(watched, WEIGHTS_NAME).items())


def test_a_run_may_be_continued_with_or_without_it(chain):
    config = with_overrides(chain.config, ["train.log_gradients=1"])
    assert distill(DistillRequest(config), chain.workspace, SilentProgress()).reused


def test_norms_and_cosines_of_every_term_are_recorded_at_every_layer_that_it_reaches(watched):
    rows = pq.read_table(watched.file(METRICS_NAME)).to_pylist()
    recorded = [row for row in rows if row["name"].startswith(("gradient_norm/", "gradient_cosine/"))]
    assert {row["step"] for row in recorded} == {0, 2}
    assert all(np.isfinite(row["value"]) for row in recorded)
    assert all(abs(row["value"]) < 1 + 1e-5 for row in recorded if row["name"].startswith("gradient_cosine/"))
    curves = read_curves(watched)
    assert sorted(curves.losses) == sorted(FAMILIES)
    total = next(row["value"] for row in rows if (row["name"], row["step"]) == ("loss/total", 0))
    assert sum(curve.values[0] for curve in curves.losses.values()) == pytest.approx(total, rel=1e-5)
    reached = {
        layer: {family for family, curve in norms.items() if curve.values.min() > 0}
        for layer, norms in curves.norms.items()
    }
    everything = set(FAMILIES)
    # The camera map's gate sees the radar's map too; CSRD sees nothing but the radar.
    assert reached == {"fuser": everything - {"csrd"}, "camera": everything - {"csrd"}, "radar": everything}
    assert len(curves.cosines["radar"]) == 7 * 6 // 2
    assert len(curves.cosines["fuser"]) == 6 * 5 // 2


def test_curves_are_drawn_with_and_without_gradients(chain, watched):
    plain = chain.workspace.find("distill", "plain", needed_for="test", make="")
    for run, charts, tables in ((watched, 4, 3), (plain, 1, 0)):
        drawn = training_section([ReportModel(run.name, training=RecordedTraining(run.label, read_curves(run)))])
        assert (drawn.count('<svg viewBox="0 0 440'), drawn.count('class="cosines"')) == (charts, tables)
