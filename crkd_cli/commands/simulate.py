"""``crkd simulate``."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from crkd_cli import console, options
from crkd_cli.session import session_of
from crkd_core.progress import format_count


def simulate(
    context: typer.Context,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write the data set to.")] = Path("crkd-simulated"),
    size: Annotated[
        Literal["full", "small", "tiny"],
        typer.Option(
            "--size",
            help="full: the sensors as they are, ten scenes; small, tiny: smaller images (tiny: coarser LiDARs too), "
            "many short scenes, as the presets of these names expect.",
        ),
    ] = "full",
    form: Annotated[
        Literal["nuscenes", "truckscenes"],
        typer.Option(
            "--format",
            help="Tables, files and vehicle: a car in town as nuScenes, or a truck on motorways and in terminals as "
            "MAN TruckScenes.",
        ),
    ] = "nuscenes",
    rig: Annotated[
        Path | None,
        typer.Option(
            "--rig",
            metavar="FILE.yaml",
            help="Vehicle and sensors of your own instead of the format's, such as examples/rigs/four_cameras.yaml.",
            show_default=False,
        ),
    ] = None,
    kind: Annotated[
        Literal["mini", "trainval"] | None,
        typer.Option("--kind", help="Whose scene names to borrow, and how many there are.", show_default="by size"),
    ] = None,
    scenes: Annotated[
        int | None, typer.Option("--scenes", min=0, max=700, help="Training scenes.", show_default="by size")
    ] = None,
    val_scenes: Annotated[
        int | None, typer.Option("--val-scenes", min=0, max=150, help="Validation scenes.", show_default="by size")
    ] = None,
    samples: Annotated[
        int | None,
        typer.Option("--samples", min=1, max=80, help="Key frames a scene, two a second.", show_default="by size"),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, max=2**32 - 1, help="Seed of the whole world.")] = 0,
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="FIELD=VALUE", help="Any other setting, such as image_width=800; may be repeated."
        ),
    ] = None,
    processes: options.WorkersOption = 1,
    force: options.ForceOption = False,
    quiet: options.QuietOption = False,
    debug: options.DebugOption = False,
) -> None:
    """Write a simulated world as a nuScenes or TruckScenes data set, for tests, demos and teaching.

    The same settings always give the same bytes. The official devkits read it too.
    """
    from crkd_cli.simulation import simulation_config

    chosen = {"kind": kind, "train_scenes": scenes, "val_scenes": val_scenes, "samples_per_scene": samples}
    values = {name: value for name, value in chosen.items() if value is not None}
    world = simulation_config(size, {**values, "seed": seed}, overrides, form, rig)
    from crkd_core.artifacts.location import quoted
    from crkd_core.stages.simulate import SimulateRequest, simulate

    result = simulate(SimulateRequest(out, world, processes, force), session_of(context).progress())
    contents = (
        format_count(result.scenes, "scene"),
        format_count(result.samples, "sample"),
        format_count(result.annotations, "annotation"),
    )
    console.print_facts(
        [
            ("data set", result.root),
            ("version", result.version),
            ("contents", ", ".join(contents)),
            ("next", f"crkd prepare --nuscenes {quoted(result.root)}"),
        ]
    )
