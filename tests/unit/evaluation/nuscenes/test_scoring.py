"""The metrics of whole data sets, filters included, are those of the devkit's ``DetectionEval``."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from crkd_core.artifacts.workspace import Artifact
from crkd_core.datasets.prepared.prepared_data import PreparedData
from crkd_core.errors import StaleArtifactError, UsageError
from crkd_core.evaluation.io.detections import Detections, write_submission
from crkd_core.evaluation.nuscenes.columns import read_gt, read_samples
from crkd_core.evaluation.nuscenes.filtering import is_evaluated
from crkd_core.evaluation.nuscenes.official import evaluate_official, require_equal
from crkd_core.evaluation.nuscenes.scoring import Scoring, score_detections
from crkd_core.progress import SilentProgress
from tests.support.described import CLASSES, NUSCENES
from tests.support.random_world import WorldCase, detection_table, prepare_world, write_random_world
from tests.support.tiny_world import SPLIT, VERSION


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("worlds")


def compare(folder: Path, case: WorldCase) -> Scoring:
    """Our scores and the devkit's, from the same files."""
    root = folder / str(len(list(folder.iterdir())))
    table = write_random_world(root, case)
    prepared = prepare_world(root, root / "prepared")
    tokens = prepared.tokens(SPLIT)
    write_submission(root / "submission.json", Detections(table), tokens, ("camera",))
    scoring = score_detections(prepared, tokens, table)
    require_equal(
        scoring.metrics, evaluate_official(NUSCENES, root, VERSION, SPLIT, root / "submission.json", SilentProgress())
    )
    return scoring


WORLDS = st.builds(
    WorldCase,
    seed=st.integers(0, 2**32 - 1),
    frames=st.integers(1, 4),
    objects=st.integers(1, 50),
    cycles=st.sampled_from([0.0, 0.8]),
    score_step=st.sampled_from([0.0, 0.1, 1.0]),
    false_alarms=st.sampled_from([0, 5, 60]),
    silent=st.sampled_from([0.0, 0.4, 1.0]),
)


@pytest.mark.devkit
@settings(deadline=None, max_examples=30)
@given(case=WORLDS)
# Detections of the objects' own sizes: a scale error near zero shows a size that lost its last digits.
@example(case=WorldCase(seed=1, frames=1, objects=31, cycles=0.0, score_step=0.0, false_alarms=0, silent=0.0))
def test_any_data_set_scores_as_in_the_devkit(folder, case):
    compare(folder, case)


@pytest.fixture(scope="module")
def world(folder):
    root = folder / "world"
    table = write_random_world(root, WorldCase(seed=2, objects=60, cycles=0.7))
    return prepare_world(root, root / "prepared"), table


def test_every_filter_is_at_work(world):
    prepared, _ = world
    samples = read_samples(prepared, prepared.tokens(SPLIT))
    gt = read_gt(prepared, samples)
    kept = is_evaluated(gt, samples)
    far = replace(gt, ego_distance=np.zeros(len(gt)))
    empty = replace(gt, points=np.ones(len(gt), dtype=np.int32))
    racked = replace(samples, rack_sample=np.full(len(samples.rack_sample), -1, dtype=np.int32))
    for changed in (is_evaluated(far, samples), is_evaluated(empty, samples), is_evaluated(gt, racked)):
        assert (kept <= changed).all()
        assert kept.sum() < changed.sum()


def test_the_order_of_samples_in_the_table_does_not_matter(world):
    prepared, table = world
    tokens = prepared.tokens(SPLIT)
    mixed = pa.concat_tables([table.filter(pc.equal(table["sample_token"], token)) for token in reversed(tokens)])
    expected = score_detections(prepared, tokens, table)
    scoring = score_detections(prepared, tokens, mixed)
    assert require_equal(scoring.metrics, expected.metrics) == 0.0
    rows = mixed.take(scoring.detections.row)["score"].to_numpy()
    assert np.array_equal(rows.astype(np.float64), scoring.detections.score)
    annotated = read_gt(prepared, scoring.samples)
    assert set(scoring.gt.row) <= set(annotated.row)


def box(**changes) -> dict:
    return {
        "sample_token": "sample0",
        "label": 0,
        "score": 0.5,
        "box": [0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0],
        "global_translation": [600.0, 600.0, 0.0],
        "global_rotation": [1.0, 0.0, 0.0, 0.0],
        "global_velocity": [0.0, 0.0],
        "attribute": "",
        **changes,
    }


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([box(sample_token="nowhere")], "nowhere, which is not among the 3"),
        ([box()] * 501, "sample0 has 501 detections"),
        ([box(attribute="asleep")], "attribute 'asleep'"),
        ([box(score=float("nan"))], "sample0 has a score that is not a number"),
        ([box(global_translation=[float("nan"), 0.0, 0.0])], "translation that is not a number"),
    ],
)
def test_what_the_benchmark_does_not_accept(world, rows, words):
    prepared, _ = world
    with pytest.raises(UsageError, match=words):
        score_detections(prepared, prepared.tokens(SPLIT), detection_table(rows))


def test_no_detections_score_zero(world):
    prepared, _ = world
    scoring = score_detections(prepared, prepared.tokens(SPLIT), detection_table([]))
    assert (scoring.metrics.mean_ap, scoring.metrics.nds) == (0.0, 0.0)
    counts = scoring.counts()
    assert tuple(counts) == CLASSES
    assert sum(entry["annotations"] for entry in counts.values()) == len(scoring.gt) > 0


def test_data_prepared_without_racks_are_stale(world):
    prepared, _ = world
    manifest = prepared.artifact.manifest.model_copy(update={"settings": {"format": 1}})
    old = PreparedData(Artifact(prepared.artifact.path, manifest))
    with pytest.raises(StaleArtifactError, match=r"crkd prepare .*--force"):
        score_detections(old, old.tokens(SPLIT), detection_table([]))
