"""``crkd demo``."""

import os
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from crkd_cli import console, options
from crkd_cli.session import Session, session_of
from crkd_core.artifacts.location import absolute, quoted
from crkd_core.progress import format_count

if TYPE_CHECKING:
    from crkd_core.artifacts.workspace import Workspace
    from crkd_core.config.schema import Config

DEFAULT_WORKSPACE = Path("crkd-demo")
MODELS = {"teacher": "teacher", "plain": "plain student", "control": "control", "crkd": "distilled student"}
"""Run names in the order of the final table, and what the table calls them."""


def demo(
    context: typer.Context,
    workspace: Annotated[
        Path, typer.Option("--workspace", "-w", help="Folder of the simulated data set and all artifacts.")
    ] = DEFAULT_WORKSPACE,
    scenes: Annotated[int, typer.Option("--scenes", min=1, max=700, help="Training scenes.")] = 32,
    samples: Annotated[int, typer.Option("--samples", min=1, max=80, help="Key frames a scene, two a second.")] = 5,
    preset: Annotated[
        str,
        typer.Option("--preset", help="Configuration (see: crkd presets).", autocompletion=options.complete_preset),
    ] = "tiny",
    overrides: options.SetOption = None,
    device: options.DeviceOption = "auto",
    processes: options.WorkersOption = 2,
    force: options.ForceOption = False,
    quiet: options.QuietOption = False,
    debug: options.DebugOption = False,
) -> None:
    """Run everything on a small simulated world: no data set and no GPU needed.

    Trains teacher, plain student, equal-epoch control and distilled student, scores and draws them. If it is stopped,
    the same command continues it.
    """
    session = session_of(context)
    if preset == "tiny":
        # Its layers are too small to be worth two threads. Torch, which is not imported yet, reads this once.
        os.environ.setdefault("OMP_NUM_THREADS", "1")
    from crkd_core.config.loading import load_config

    config = load_config(preset, None, overrides or ())
    from crkd_core.training.distributed import choose_device

    choose_device(device)
    show = _Demo(session, session.workspace(workspace), config, device, processes, force)
    typed = "".join(f" --set {shlex.quote(override)}" for override in overrides or ())
    steps = show.steps(scenes, samples, f" --preset {preset}{typed}")
    for number, step in enumerate(steps, start=1):
        if not quiet and not session.quiet:
            console.show_step(f"[{number}/{len(steps)}] {step.command}")
        step.run()
    show.print_results()


@dataclass(frozen=True)
class _Step:
    command: str
    run: Callable[[], None]


class _Demo:
    """The steps of the demo, and their results."""

    def __init__(
        self, session: Session, workspace: "Workspace", config: "Config", device: str, processes: int, force: bool
    ) -> None:
        self._workspace = workspace
        self._config = config
        self._device = device
        self._processes = processes
        self._force = force
        self._dataset = absolute(workspace.root) / "dataset"
        self._progress = session.progress()
        self._scores: list[Any] = []
        self._pictures: list[Path] = []

    def steps(self, scenes: int, samples: int, chosen: str) -> list[_Step]:
        """Every step with the command it stands for; `chosen` are the options that choose the configuration."""
        dataset, at = quoted(self._dataset), f"--workspace {quoted(self._workspace.root)}"
        models = " ".join(f"--model {name}" for name in MODELS)
        return [
            _Step(
                f"crkd simulate --out {dataset} --size tiny --scenes {scenes} --samples {samples}",
                lambda: self._simulate(scenes, samples),
            ),
            _Step(f"crkd prepare --nuscenes {dataset} {at}", self._prepare),
            _Step(f"crkd train-teacher {at}{chosen}", self._train_teacher),
            _Step(f"crkd extract-teacher {at}", self._extract_teacher),
            _Step(f"crkd distill {at} --losses none", lambda: self._distill(())),
            _Step(f"crkd distill {at} --name crkd", lambda: self._distill(None, name="crkd")),
            _Step(
                f"crkd distill {at} --losses none --init plain --name control",
                lambda: self._distill((), init="plain", name="control"),
            ),
            _Step(f"crkd evaluate {at} {models}", self._evaluate),
            _Step(f"crkd visualize {at} {models}", self._visualize),
        ]

    def _simulate(self, scenes: int, samples: int) -> None:
        from crkd_cli.simulation import simulation_config
        from crkd_core.stages.simulate import SimulateRequest, simulate

        world = simulation_config("tiny", {"train_scenes": scenes, "samples_per_scene": samples})
        simulate(SimulateRequest(self._dataset, world, self._processes, self._force), self._progress)

    def _prepare(self) -> None:
        from crkd_core.stages.prepare import PrepareRequest, prepare

        request = PrepareRequest(
            nuscenes=self._dataset,
            processes=self._processes,
            force=self._force,
        )
        prepare(request, self._workspace, self._progress)

    def _train_teacher(self) -> None:
        from crkd_core.stages.train_teacher import TrainTeacherRequest, train_teacher

        train_teacher(
            TrainTeacherRequest(self._config, device=self._device, force=self._force), self._workspace, self._progress
        )

    def _extract_teacher(self) -> None:
        from crkd_core.stages.extract_teacher import ExtractRequest, extract_teacher

        extract_teacher(
            ExtractRequest(self._config, device=self._device, force=self._force), self._workspace, self._progress
        )

    def _distill(self, losses: tuple[str, ...] | None, init: str = "auto", name: str | None = None) -> None:
        from crkd_core.stages.distill import DistillRequest, distill

        request = DistillRequest(self._config, losses, init=init, name=name, device=self._device, force=self._force)
        distill(request, self._workspace, self._progress)

    def _evaluate(self) -> None:
        from crkd_core.stages.evaluate import EvaluateRequest, evaluate

        for name in MODELS:
            request = EvaluateRequest(model=name, device=self._device, force=self._force)
            self._scores.append(evaluate(request, self._workspace, self._progress))

    def _visualize(self) -> None:
        from crkd_core.stages.visualize import VisualizeRequest, visualize

        result = visualize(VisualizeRequest(models=tuple(MODELS), force=self._force), self._workspace, self._progress)
        self._pictures = [*result.paths, result.index]

    def print_results(self) -> None:
        """The table of the four models, and where the pictures are."""
        from crkd_cli.scores import print_scores

        print_scores(self._scores, list(MODELS.values()))
        epochs = format_count(self._config.train.distill.epochs, "epoch")
        console.print_lines(
            "",
            "teacher: camera + LiDAR. The others: camera + radar.",
            f"control: the plain student trained on without a teacher, as long as the distilled one ({epochs}).",
            "",
            *(str(path) for path in self._pictures),
        )
