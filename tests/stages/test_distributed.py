"""Several processes on the CPU through torch's elastic launcher, with the real command."""

import os
import subprocess
import sys

from crkd_core.artifacts.shards import read_tensors
from crkd_core.training.recorded_curves import read_curves
from crkd_core.training.trained import WEIGHTS_NAME
from tests.support.chain import CHAIN_OVERRIDES


def crkd(workspace, *arguments):
    overrides = [part for override in CHAIN_OVERRIDES for part in ("--set", override)]
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
        capture_output=True,
        text=True,
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
