"""Shared test set-up: shape annotations are enforced for the whole library while testing."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

from jaxtyping import install_import_hook

install_import_hook("crkd_core", "beartype.beartype")
