"""What is said where a devkit is not installed, or there is none."""

import sys

import pytest

from crkd_core.errors import UsageError
from crkd_core.evaluation.nuscenes.devkits import DEVKITS, devkit_of
from crkd_core.evaluation.nuscenes.official import require_devkit
from tests.support.described import NUSCENES, THREE, TWELVE


@pytest.mark.parametrize("devkit", DEVKITS, ids=lambda devkit: devkit.name)
def test_a_missing_devkit_is_said_with_the_command_that_installs_it(monkeypatch, devkit):
    package = devkit.data_set
    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UsageError) as refused:
        require_devkit(devkit)
    message = str(refused.value)
    assert message.startswith(f"--official needs the {devkit.name}")
    assert message.endswith(devkit.install)
    assert "\n" not in message


def test_every_benchmark_has_its_devkit():
    assert [devkit_of(description).description for description in (NUSCENES, TWELVE)] == [NUSCENES, TWELVE]


def test_what_no_devkit_scores_is_refused():
    with pytest.raises(UsageError, match="shuttle is described without"):
        devkit_of(THREE)
    car = NUSCENES.classes["car"].model_copy(update={"range_m": 60.0})
    changed = NUSCENES.model_copy(update={"classes": {**NUSCENES.classes, "car": car}})
    with pytest.raises(UsageError, match="the nuScenes devkit has other range_m of classes than its description"):
        devkit_of(changed)
    fewer = NUSCENES.model_copy(update={"classes": {"car": car}})
    with pytest.raises(UsageError, match="has other classes than"):
        devkit_of(fewer)
