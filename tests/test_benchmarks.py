"""The benchmark scripts run, at tiny sizes, and print the tables they promise."""

import os
import subprocess
import sys

import pytest

from tests.support.checkout import ROOT

TINY = ("--preset", "tiny")


@pytest.mark.parametrize(
    ("script", "arguments", "words"),
    [
        ("bev_pooling", [*TINY, "--detectors", "student"], ["student, embedding_bag", "student, ratio", "memory (MB)"]),
        (
            "voxelisation",
            [*TINY, "--lidar-points", "2000", "--radar-points", "200"],
            ["LiDAR voxels", "radar pillars", "ratio"],
        ),
        ("decoding", [*TINY, "--device", "cpu"], ["batch 1", "batch 4", "detections", "ratio"]),
        (
            "distillation_cost",
            [*TINY, "--device", "cpu"],
            ["tiny, cache", "tiny, live teacher", "peak memory (MB)", "tiny, with LiDAR", "tiny, ratio"],
        ),
        (
            "full_size_inference",
            [*TINY, "--size", "tiny", "--device", "cpu", "--detectors", "teacher"],
            ["teacher", "peak memory (GB)"],
        ),
        (
            "training_step",
            [*TINY, "--detectors", "student", "--batch", "1", "--against", str(ROOT), "--rounds", "1"],
            ["of the loss", "of the gradient", "other checkout (ms)", "ratio: student"],
        ),
        (
            "loader",
            [*TINY, "--size", "tiny", "--rounds", "1", "--against", str(ROOT)],
            ["images: at most 0 grey levels apart", "2 loader processes", "\nratio: the process itself "],
        ),
        (
            "training_memory",
            [*TINY, "--size", "tiny", "--device", "cpu", "--detectors", "student", "--variants", "kept", "all"],
            ["student, kept", "student, all", "kept (GB)", "student, all, ratio to kept: kept 0."],
        ),
        (
            "trainval_tables",
            ["--scale", "0.003", "--against", str(ROOT)],
            ["against", "prepare", "peak memory (MB)", "of which 0 differ", "ratio: against"],
        ),
        pytest.param(
            "metrics",
            ["--samples", "4"],
            ["crkd, 4 samples", "devkit, 4 samples", "ratio, 4 samples", "peak memory (MB)"],
            marks=pytest.mark.devkit,
        ),
    ],
)
def test_benchmarks_run(script, arguments, words):
    command = [sys.executable, str(ROOT / "examples" / "benchmarks" / f"{script}.py")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        [*command, "--repeats", "1", *arguments], capture_output=True, text=True, env=environment, check=False
    )
    assert result.returncode == 0, result.stderr
    assert all(word in result.stdout for word in words), result.stdout


def test_teacher_targets_of_a_realistic_scene_keep_to_the_budget():
    """At the paper's sizes, at most 2.0 MB a sample and view in fp16 and 1.0 MB in int8."""
    script = ROOT / "examples" / "benchmarks" / "teacher_targets.py"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(script), "--preset", "paper-r50", "--scenes", "1", "--repeats", "1"]
    result = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert result.returncode == 0, result.stderr
    raw, fp32, fp16, int8 = _row(result.stdout, "all")[:4]
    assert 25 < raw < 28
    assert fp16 < min(fp32, 2.0)
    assert int8 < min(fp16, 1.0)


def _row(text, title):
    """Numbers of the first row of a title."""
    line = next(line for line in text.splitlines() if line.strip("│ ").startswith(title + " "))
    return [float(cell) for cell in line.split("│")[2:-1]]
