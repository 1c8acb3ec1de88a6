"""What is said where the nuScenes devkit is not installed."""

import sys

import pytest

from crkd_core.errors import UsageError
from crkd_core.evaluation.nuscenes.official import DEVKIT_INSTALL, require_devkit


def test_a_missing_devkit_is_said_with_the_command_that_installs_it(monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "nuscenes"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "nuscenes", None)
    with pytest.raises(UsageError) as refused:
        require_devkit()
    message = str(refused.value)
    assert message.startswith("--official needs the nuScenes devkit")
    assert message.endswith(DEVKIT_INSTALL)
    assert "\n" not in message
