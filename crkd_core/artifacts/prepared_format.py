"""Which prepared data this version reads; apart from their tables, so that looking at a workspace stays quick."""

from crkd_core.artifacts.artifact import Artifact
from crkd_core.artifacts.manifest import Manifest
from crkd_core.errors import StaleArtifactError

FORMAT = 3
"""Raised where the tables change: 2 has the bicycle racks; 3 tells unknown numbers of points from 0, has usable boxes
only, and night and rain by whole words."""


def format_problem(manifest: Manifest) -> str | None:
    """What is the matter with data that were prepared by an earlier version; None where nothing is."""
    older = manifest.settings.get("format", 1)
    return f"prepared in an older format ({older}, this version needs {FORMAT})" if older < FORMAT else None


def check_format(artifact: Artifact) -> None:
    """Refuse data that were prepared by an earlier version.

    Raises:
        StaleArtifactError: they may hold what is left out, or counted otherwise, by now.
    """
    problem = format_problem(artifact.manifest)
    if problem is not None:
        raise StaleArtifactError(f"{artifact.label} was {problem}; make it again with: {artifact.remake_command()}")
