"""Shared test set-up: shape annotations are enforced for the whole library while testing, and one small chain of
stages is run once for all tests that need its results."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

from jaxtyping import install_import_hook

install_import_hook("crkd_core", "beartype.beartype")

from importlib.util import find_spec

import pytest
from filelock import FileLock

from crkd_core.artifacts.workspace import Workspace
from crkd_core.config.loading import load_config
from tests.support.chain import CHAIN_OVERRIDES, Chain, run_chain


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what compares with the devkit where it is not installed, as from Python 3.13 on."""
    if find_spec("nuscenes") is None:
        for item in items:
            if item.get_closest_marker("devkit"):
                item.add_marker(pytest.mark.skip(reason="the nuScenes devkit is not installed"))


@pytest.fixture(scope="session")
def chain(tmp_path_factory) -> Chain:
    """One chain of stages for the whole test session, also where several processes share it."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    folder = shared / "chain"
    result = Chain(folder / "world", Workspace(folder / "workspace"), load_config("tiny", None, CHAIN_OVERRIDES))
    with FileLock(shared / "chain.lock"):
        if not (folder / "done").exists():
            run_chain(result)
            (folder / "done").touch()
    return result
