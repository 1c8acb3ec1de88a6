"""Whether what is at a simulated data set's folder is the one asked for, another one, or something else."""

from pathlib import Path
from typing import Any

from crkd_core.datasets.simulated.config import SimulationConfig
from crkd_core.datasets.simulated.writer.world_folder import MARKER, counts_of, read_marker
from crkd_core.errors import UsageError


def existing_counts(out: Path, config: SimulationConfig) -> tuple[int, int, int] | None:
    """Numbers of scenes, samples and annotations at `out`, if that is the data set asked for; None if nothing is there.

    Raises:
        UsageError: there is something else.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return None
    marker = read_marker(out)
    if marker is None:
        raise UsageError(
            f"{out} exists and is not a simulated data set of crkd: "
            "choose another folder, or move it aside with --force."
        )
    if marker["digest"] != config.digest():
        raise UsageError(
            f"{out} holds a simulated data set made with other settings ({_difference(marker, config)}): "
            "choose another folder, or replace it with --force."
        )
    counts = counts_of(marker)
    if counts is None:
        raise UsageError(
            f"{out} holds an unfinished simulated data set ({MARKER} has no numbers): choose another folder, or "
            "replace it with --force."
        )
    return counts


def check_unfinished(partial: Path, config: SimulationConfig) -> None:
    """Refuse to discard an unfinished run of another configuration.

    Raises:
        UsageError: naming how it differs.
    """
    marker = read_marker(partial)
    if marker is not None and marker["digest"] != config.digest():
        raise UsageError(
            f"{partial} is an unfinished simulation with other settings ({_difference(marker, config)}): "
            "finish it with its settings, choose another folder, or start anew with --force."
        )


def _difference(marker: dict[str, Any], config: SimulationConfig) -> str:
    fields = SimulationConfig.model_fields
    defaults = {name: field.default for name, field in fields.items()}
    existing, expected = defaults | marker.get("config", {}), defaults | config.model_dump(mode="json")
    names = [name for name in fields if existing[name] != expected[name]]
    if not names:
        return "another version of the simulator"
    told = (f"{name} is {existing[name]}, wanted {expected[name]}" for name in names[:3] if name != "rig")
    return ", ".join(("the rig is another", *told) if "rig" in names[:3] else told)
