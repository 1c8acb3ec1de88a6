"""Reports with everything in them, without a workspace."""

import numpy as np
from PIL import Image

from crkd_core.artifacts.atomic import atomic_path
from crkd_core.config.classes import DETECTION_CLASSES
from crkd_core.evaluation.nuscenes.metrics import MATCH_DISTANCES_M, ClassMetrics, Metrics, TPErrors
from crkd_core.visualization.report.contents import Report, ReportComparison, ReportModel, ReportPicture
from crkd_core.visualization.training_curves import Curve, RecordedTraining, TrainingCurves

SLICES = {
    "all": ["all"],
    "range": ["0-20", "20-30", "30-50"],
    "speed": ["0-0.5", "0.5-3", "3-10", "10+"],
    "visibility": ["0-40", "80-100"],
    "condition": ["day", "night"],
}


def metrics(value):
    errors = TPErrors(0.5, 0.2, 0.3, 0.8, 0.1)
    classes = {name: ClassMetrics(dict.fromkeys(MATCH_DISTANCES_M, value), errors) for name in DETECTION_CLASSES}
    return Metrics(value, value + 0.1, errors, classes)


def breakdown(value, intervals=True, classes=DETECTION_CLASSES):
    rows = []
    for kind, names in SLICES.items():
        for name in names:
            for number, label in enumerate(("all", *classes)):
                ap = value * (1 + number / 20)
                ends = (ap - 0.03, ap + 0.04) if intervals else (None, None)
                nds = (value + 0.1, value + 0.05, value + 0.15) if label == "all" and intervals else (None,) * 3
                rows.append(
                    {"kind": kind, "slice": name, "class": label, "objects": 10 + number, "ap": ap, "ap_low": ends[0],
                     "ap_high": ends[1], "nds": nds[0], "nds_low": nds[1], "nds_high": nds[2]}
                )  # fmt: skip
    return rows


def differences(value, judged=True):
    rows = []
    for row in breakdown(0.3):
        ends = (value - 0.05, value + 0.05) if judged else (None, None)
        cells = {"first": 0.3, "second": 0.3 + value, "difference": value, "low": ends[0], "high": ends[1]}
        numbers = {f"{score}_{name}": cell for score in ("ap", "nds") for name, cell in cells.items()}
        verdict = abs(value) > 0.05 if judged else None
        both = {"ap_beyond_noise": verdict, "nds_beyond_noise": verdict}
        rows.append({name: row[name] for name in ("kind", "slice", "class", "objects")} | numbers | both)
    return rows


def curves(gradients=True):
    steps = np.arange(0, 400, 2)
    rng = np.random.default_rng(0)

    def curve(start):
        return Curve(steps, start * np.exp(-steps / 300) * rng.uniform(0.8, 1.2, len(steps)))

    families = ("heatmap", "box", "csrd", "msfd", "reld", "respd", "depth")
    losses = {name: curve(10.0 / (1 + number)) for number, name in enumerate(families)}
    if not gradients:
        return TrainingCurves(losses)
    cosines = {(first, second): -0.3 for first in families for second in families if first < second}
    scores = {"mAP": Curve(steps[::40], np.linspace(0, 0.4, 5))}
    return TrainingCurves(losses, {"fuser": losses}, {"fuser": cosines}, scores)


def full_report(folder, pictures=2, names=("teacher", "plain", "control", "distill/crkd-with-a-long-name_of-its-own")):
    """A report and its pictures in `folder`."""
    entries = []
    for number in range(pictures):
        Image.fromarray(np.full((300, 400, 3), 40 * number, np.uint8)).save(folder / f"{number}.png")
        condition = 'rain <b> & "night", ' * 6
        entry = ReportPicture(f"{number}.png", f"token{number}" * 8, "scene-0103", condition, ("crkd: 3 of 5 found",))
        entries.append(entry)
    models = [
        ReportModel(
            name, "camera + radar", metrics(0.2 + 0.1 * number), breakdown(0.2 + 0.1 * number),
            RecordedTraining(f"distill/{name}", curves()),
        )
        for number, name in enumerate(names)
    ]  # fmt: skip
    comparisons = [ReportComparison(names[0], names[-1], differences(value)) for value in (0.12, -0.12, 0.01)]
    comparisons.append(ReportComparison(names[0], names[-1], differences(0.1, judged=False)))
    return Report("four models on val", [("samples", "18 of mini_val")], models, comparisons, entries)


def write_plain_picture(path, sample):
    """In the place of a picture that takes seconds to draw."""
    with atomic_path(path) as temporary:
        Image.fromarray(np.zeros((30, 40, 3), np.uint8)).save(temporary, format="PNG")
