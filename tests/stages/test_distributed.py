"""Several processes on the CPU through torch's elastic launcher, with the real command."""

import os
import subprocess
import sys

import pyarrow.parquet as pq
import pytest

from crkd_core.artifacts.shards import read_tensors
from crkd_core.training.metric_log import METRICS_NAME
from crkd_core.training.recorded_curves import read_curves
from crkd_core.training.trained import WEIGHTS_NAME
from tests.support.chain import CHAIN_OVERRIDES


def crkd(workspace, *arguments, settings=()):
    overrides = [part for override in (*CHAIN_OVERRIDES, *settings) for part in ("--set", override)]
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "crkd_cli",
            *arguments,
            "--workspace",
            str(workspace.root),
            "--preset",
            "tiny",
            *overrides,
        ],
        capture_output="true",
        text="true",
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def test_two_processes_extract_the_same_bytes_and_train_a_student(chain, tmp_path):
    copy = chain.copy(tmp_path)
    done = crkd(copy.workspace, "extract-teacher", "--name", "shared", "--processes", "2")
    assert done.returncode == 0, done.stderr
    alone, shared = (
        copy.workspace.find("extract-teacher", name, needed_for="test", make="") for name in ("targets", "shared")
    )
    assert shared.manifest.files == alone.manifest.files

    options = ("--name", "pair", "--targets", "targets", "--processes", "2", "--log-gradients", "1")
    done = crkd(copy.workspace, "distill", *options)
    assert done.returncode == 0, done.stderr
    pair, single = (copy.workspace.find("distill", name, needed_for="test", make="") for name in ("pair", "crkd"))
    assert pair.manifest.settings["processes"] == 2
    # Twice the samples a step, so half the steps.
    assert pair.manifest.facts["steps"] * 2 == single.manifest.facts["steps"]
    assert read_tensors(pair, WEIGHTS_NAME).keys() == read_tensors(single, WEIGHTS_NAME).keys()
    cosines = read_curves(pair).cosines
    assert {len(pairs) for pairs in cosines.values()} == {15, 21}


def test_two_processes_train_like_one_with_the_whole_batch(chain, tmp_path):
    copy = chain.copy(tmp_path)
    shared = {"train.sync_batch_norm": "true", "train.normalise_over_ranks": "true", "train.ema_decay": 0.9}
    long = {
        **shared,
        "train.teacher.validate_every": 1,
        "train.teacher.final_weights": "best",
        "train.log_gradients": 1,
    }
    arguments = {"alone": {**long, "train.teacher.batch_size": 2}, "pair": {**long, "train.teacher.batch_size": 1}}
    for name, settings in arguments.items():
        processes, changes = "2" if name == "pair" else "1", [f"{key}={value}" for key, value in settings.items()]
        options = ("--name", name, "--processes", processes)
        done = crkd(copy.workspace, "train-teacher", *options, settings=changes)
        assert done.returncode == 0, done.stderr
    alone, pair = (copy.workspace.find("train-teacher", name, needed_for="test", make="") for name in arguments)
    assert alone.manifest.facts["steps"] == pair.manifest.facts["steps"]
    assert alone.manifest.files.keys() >= {f"model{kind}.safetensors" for kind in ("", "-last", "-ema")}
    tables = [pq.read_table(run.file(METRICS_NAME)).to_pylist() for run in (alone, pair)]
    first, second = ({(row["step"], row["name"]): row["value"] for row in rows} for rows in tables)
    assert first[0, "gradient_norm"] == pytest.approx(second[0, "gradient_norm"], rel=1e-2)
    assert {name for _, name in first} >= {"validation/mAP", "validation/NDS"}
    weights, others = read_tensors(alone, WEIGHTS_NAME), read_tensors(pair, WEIGHTS_NAME)
    statistics = [name for name in weights if name.endswith("running_mean")]
    assert statistics
    for name in statistics:
        assert float((weights[name] - others[name]).norm()) <= 0.1 * float(weights[name].norm()) + 1e-3, name
