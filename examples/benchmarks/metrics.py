"""Detection metrics: ours from Parquet against the nuScenes devkit from its own files, on the same detections.

Boxes: from the files to the filtered boxes (ours: Parquet tables; the devkit: the submission and its tables, whose
opening is not counted). Metrics: matching, accumulation and the summary. Each runs in a process of its own, whose peak
memory is given, and the numbers of both are compared. The data are made up, with the density of nuScenes' val.

    python examples/benchmarks/metrics.py [--samples 600 6019] [--detections 170] [--repeats 3]
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import pyarrow.parquet as pq
from evaluation_world import SPLIT, VERSION, open_world, prepare_world, write_world
from measuring import median_seconds, peak_mb, report, run_case, show

from crkd_core.artifacts.tables import write_table
from crkd_core.config.description_files import nuscenes
from crkd_core.datasets.prepared.preparing import ANNOTATIONS
from crkd_core.evaluation.io.detections import SUBMISSION_NAME, TABLE_NAME, Detections, write_submission
from crkd_core.evaluation.nuscenes.accumulate import accumulate, summarise
from crkd_core.evaluation.nuscenes.columns import detection_columns
from crkd_core.evaluation.nuscenes.filtering import is_evaluated
from crkd_core.evaluation.nuscenes.match import match
from crkd_core.evaluation.nuscenes.metrics import Metrics
from crkd_core.evaluation.nuscenes.official import convert_summary, require_equal
from crkd_core.evaluation.nuscenes.scoring import read_ground_truth

_PREPARED = "prepared"
NUSCENES = nuscenes()


def measure_crkd(folder: Path, repeats: int) -> dict[str, float]:
    """Medians of both parts, after one run that is not counted."""

    def boxes():
        prepared = open_world(folder / _PREPARED)
        ground_truth = read_ground_truth(prepared, prepared.tokens(SPLIT))
        detected = detection_columns(pq.read_table(folder / TABLE_NAME), ground_truth.samples)
        return detected[is_evaluated(detected, ground_truth.samples)], ground_truth.boxes

    def metrics():
        return summarise(accumulate(detections, gt, match(detections, gt, NUSCENES), NUSCENES), NUSCENES)

    boxes_s = median_seconds(boxes, repeats)
    detections, gt = boxes()
    metrics_s = median_seconds(metrics, repeats)
    (folder / "crkd.json").write_text(json.dumps(metrics().to_json()))
    return {"boxes": boxes_s, "metrics": metrics_s, "memory": peak_mb()}


def measure_devkit(folder: Path) -> dict[str, float]:
    """One run; it takes minutes."""
    from nuscenes import NuScenes
    from nuscenes.eval.common.config import config_factory
    from nuscenes.eval.detection.evaluate import DetectionEval

    tables = NuScenes(version=VERSION, dataroot=str(folder), verbose=False)
    began = time.perf_counter()
    submission, scratch = str(folder / SUBMISSION_NAME), str(folder / "devkit")
    official = DetectionEval(
        tables, config_factory(NUSCENES.evaluation.protocol), submission, SPLIT, scratch, verbose=False
    )
    boxes_s = time.perf_counter() - began
    began = time.perf_counter()
    summary, _ = official.evaluate()
    metrics_s = time.perf_counter() - began
    (folder / "devkit.json").write_text(json.dumps(convert_summary(summary, NUSCENES).to_json()))
    return {"boxes": boxes_s, "metrics": metrics_s, "memory": peak_mb()}


def write_case(folder: Path, samples: int, detections: int) -> dict[str, float]:
    """Make the data of one size; returns how many boxes they hold."""
    table = write_world(folder, samples, detections)
    prepare_world(folder, folder / _PREPARED)
    tokens = open_world(folder / _PREPARED).tokens(SPLIT)
    write_submission(folder / SUBMISSION_NAME, Detections(table), tokens, ("camera", "radar"))
    write_table(folder / TABLE_NAME, table)
    return {"annotated": pq.read_metadata(folder / _PREPARED / ANNOTATIONS).num_rows, "detected": len(table)}


def compare(samples: int, detections: int, repeats: int) -> tuple[list[list[str]], str]:
    """The rows of one size, and what was compared."""
    with tempfile.TemporaryDirectory(prefix="crkd-metrics-") as scratch:
        folder = Path(scratch)
        arguments = ["--samples", str(samples), "--detections", str(detections), "--repeats", str(repeats)]
        held = run_case(__file__, ("data", scratch), arguments)
        measured = {name: run_case(__file__, (name, scratch), arguments) for name in ("crkd", "devkit")}
        scores = [Metrics.from_json(json.loads((folder / f"{name}.json").read_text()), NUSCENES) for name in measured]
    difference = require_equal(*scores)
    rows = []
    for name, values in measured.items():
        total = values["boxes"] + values["metrics"]
        parts = [f"{seconds:.3f}" for seconds in (values["boxes"], values["metrics"], total)]
        rows.append([f"{name}, {samples} samples", *parts, f"{1000 * total / samples:.2f}", f"{values['memory']:.0f}"])
    crkd, devkit = (
        (values["boxes"], values["metrics"], values["boxes"] + values["metrics"]) for values in measured.values()
    )
    ratios = [f"{slow / fast:.0f}x" for fast, slow in zip(crkd, devkit)]
    rows.append([f"ratio, {samples} samples", *ratios, ratios[-1], ""])
    density = ", ".join(f"{number / samples:.0f} {name}" for name, number in held.items())
    said = f"{samples} samples: {density} boxes a sample; mAP {scores[0].mean_ap:.4f}, difference {difference:.1e}"
    return rows, said


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, nargs="+", default=(600, 6019), help="sizes of the split; val has 6,019")
    parser.add_argument("--detections", type=int, default=170, help="a sample")
    parser.add_argument("--repeats", type=int, default=3, help="timed runs of ours, after one that is not counted")
    parser.add_argument("--case", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        name, folder = options.case
        if name == "data":
            report(write_case(Path(folder), options.samples[0], options.detections))
        else:
            report(measure_crkd(Path(folder), options.repeats) if name == "crkd" else measure_devkit(Path(folder)))
        return
    rows, said = [], []
    for samples in options.samples:
        table, text = compare(samples, options.detections, options.repeats)
        rows += table
        said.append(text)
    columns = ["", "boxes (s)", "metrics (s)", "both (s)", "a sample (ms)", "peak memory (MB)"]
    show("nuScenes detection metrics, one process each", columns, rows)
    print("\n".join(said))


if __name__ == "__main__":
    main()
