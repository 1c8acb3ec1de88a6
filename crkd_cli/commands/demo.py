"""``crkd demo``."""

import os
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from crkd_cli import console, options
from crkd_cli.session import session_of
from crkd_core.artifacts.location import absolute, quoted
from crkd_core.errors import UsageError
from crkd_core.progress import format_count

if TYPE_CHECKING:
    from crkd_core.artifacts.workspace import Workspace
    from crkd_core.config.schema import Config
    from crkd_core.progress import Progress
    from crkd_core.stages.evaluate import EvaluateResult

DEFAULT_WORKSPACE, LOOK_WORKSPACE = Path("crkd-demo"), Path("crkd-look")
MODELS = {"teacher": "teacher", "plain": "plain student", "control": "control", "crkd": "distilled student"}
"""Run names in the order of the final table, and what the table calls them."""
SHIPPED = {"teacher": "simulated-tiny-teacher", "student": "simulated-tiny-student"}
"""Roles of the models that come with crkd, and their names."""
_LOOKED_AT = {name: MODELS[name] for name in ("teacher", "plain")}
_LOOK_SCENES, LOOK_SEED = 8, 2000
"""Validation scenes of --look, and the seed of a world that no model was trained, and no setting chosen, on."""
_SENSORS = {"lidar_sweeps_per_key_frame": 9, "lead_in": True}
"""What the shipped models' world has beyond the size tiny."""


def demo(
    context: typer.Context,
    workspace: Annotated[
        Path | None,
        typer.Option(
            "--workspace",
            "-w",
            help="Folder of the simulated data set and all artifacts.",
            show_default=f"{DEFAULT_WORKSPACE}; {LOOK_WORKSPACE}",
        ),
    ] = None,
    look: Annotated[
        bool,
        typer.Option("--look", help="Train nothing: show what the models that come with crkd see in a new world."),
    ] = False,
    scenes: Annotated[
        int | None,
        typer.Option(
            "--scenes",
            min=1,
            max=700,
            help="Training scenes; with --look, those to score on (at most 150).",
            show_default=f"32; {_LOOK_SCENES}",
        ),
    ] = None,
    samples: Annotated[int, typer.Option("--samples", min=1, max=80, help="Key frames a scene, two a second.")] = 5,
    seed: Annotated[
        int | None,
        typer.Option("--seed", min=0, max=2**32 - 1, help="Seed of the world.", show_default=f"0; {LOOK_SEED}"),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            "--preset",
            help="Configuration (see: crkd presets).",
            autocompletion=options.complete_preset,
            show_default="tiny",
        ),
    ] = None,
    overrides: options.SetOption = None,
    device: options.DeviceOption = "auto",
    processes: options.WorkersOption = 2,
    force: options.ForceOption = False,
    quiet: options.QuietOption = False,
    debug: options.DebugOption = False,
) -> None:
    """Run everything on a small simulated world: no data set and no GPU needed.

    Trains teacher, plain student, equal-epoch control and distilled student, scores and draws them: about ten minutes
    on two cores. With --look, about one: the teacher and the student that come with crkd are scored and drawn on a
    world they have never seen. If it is stopped, the same command continues it.
    """
    session = session_of(context)
    if look and (preset is not None or overrides):
        raise UsageError(
            "--look trains nothing, and its models bring their configuration: leave out --preset and --set."
        )
    if preset in (None, "tiny"):
        # Its layers are too small to be worth two threads. Torch, which is not imported yet, reads this once.
        os.environ.setdefault("OMP_NUM_THREADS", "1")
    store = session.workspace(workspace or (LOOK_WORKSPACE if look else DEFAULT_WORKSPACE))
    make = _Making(session.progress(), store, device, processes, force)
    show: _Look | _Demo
    if look:
        show = _Look(make, scenes or _LOOK_SCENES, samples, LOOK_SEED if seed is None else seed)
    else:
        from crkd_core.config.loading import load_config

        config = load_config(preset or "tiny", None, overrides or ())
        typed = "".join(f" --set {shlex.quote(override)}" for override in overrides or ())
        show = _Demo(make, config, f" --preset {preset or 'tiny'}{typed}", scenes or 32, samples, seed or 0)
    from crkd_core.training.distributed import choose_device

    choose_device(device)
    steps = show.steps()
    for number, step in enumerate(steps, start=1):
        if not quiet and not session.quiet:
            console.show_step(f"[{number}/{len(steps)}] {step.command}")
        step.run()
    show.print_results()


@dataclass(frozen=True)
class _Step:
    command: str
    run: Callable[[], None]


@dataclass(frozen=True)
class _Making:
    """What all steps work with, and those that every demonstration has."""

    progress: "Progress"
    workspace: "Workspace"
    device: str
    processes: int
    force: bool

    @property
    def dataset(self) -> Path:
        """Folder of the simulated world."""
        return absolute(self.workspace.root) / "dataset"

    @property
    def at(self) -> str:
        """The option that names the workspace."""
        return f"--workspace {quoted(self.workspace.root)}"

    def simulate(self, options: str, values: dict[str, Any]) -> _Step:
        """The world; `options` are those of the command that stand for `values`."""

        def run() -> None:
            from crkd_cli.simulation import simulation_config
            from crkd_core.stages.simulate import SimulateRequest, simulate

            world = simulation_config("tiny", values)
            simulate(SimulateRequest(self.dataset, world, self.processes, self.force), self.progress)

        return _Step(f"crkd simulate --out {quoted(self.dataset)} --size tiny {options}", run)

    def prepare(self) -> _Step:
        """The world's tables."""

        def run() -> None:
            from crkd_core.stages.prepare import PrepareRequest, prepare

            request = PrepareRequest(nuscenes=self.dataset, processes=self.processes, force=self.force)
            prepare(request, self.workspace, self.progress)

        return _Step(f"crkd prepare --nuscenes {quoted(self.dataset)} {self.at}", run)

    def evaluate(self, models: Sequence[str], scores: "list[EvaluateResult]") -> _Step:
        """Scores of models, added to `scores`."""

        def run() -> None:
            from crkd_core.stages.evaluate import EvaluateRequest, evaluate

            for name in models:
                request = EvaluateRequest(model=name, device=self.device, force=self.force)
                result = evaluate(request, self.workspace, self.progress)
                if result is not None:
                    scores.append(result)

        return _Step(f"crkd evaluate {self.at} {_named(models)}", run)

    def visualize(self, models: Sequence[str], pictures: list[Path]) -> _Step:
        """Pictures of models, and last the page that shows them, added to `pictures`."""

        def run() -> None:
            from crkd_core.stages.visualize import VisualizeRequest, visualize

            result = visualize(VisualizeRequest(models=tuple(models), force=self.force), self.workspace, self.progress)
            pictures.extend([*result.paths, result.index])

        return _Step(f"crkd visualize {self.at} {_named(models)}", run)


def _named(models: Sequence[str]) -> str:
    return " ".join(f"--model {name}" for name in models)


class _Look:
    """Shipped models on a new world."""

    def __init__(self, make: _Making, scenes: int, samples: int, seed: int) -> None:
        self._make = make
        self._counts = {"train_scenes": 0, "val_scenes": scenes, "samples_per_scene": samples, "seed": seed}
        self._scores: list[EvaluateResult] = []
        self._pictures: list[Path] = []

    def steps(self) -> list[_Step]:
        """Every step with the command it stands for; weights first, which say what has to be prepared."""
        counts = self._counts
        sizes = f"--scenes 0 --val-scenes {counts['val_scenes']} --samples {counts['samples_per_scene']}"
        sensors = " ".join(f"--set {field}={str(value).lower()}" for field, value in _SENSORS.items())
        models = tuple(_LOOKED_AT)
        return [
            *(self._import(role, name) for role, name in SHIPPED.items()),
            self._make.simulate(f"{sizes} --seed {counts['seed']} {sensors}", {**counts, **_SENSORS}),
            self._make.prepare(),
            self._make.evaluate(models, self._scores),
            self._make.visualize(models, self._pictures),
        ]

    def _import(self, role: Any, name: str) -> _Step:
        def run() -> None:
            from crkd_core.stages.import_weights import ImportRequest, import_weights

            request = ImportRequest(Path(name), role, force=self._make.force)
            import_weights(request, self._make.workspace, self._make.progress)

        from crkd_core.artifacts.command import Command

        command = Command("import-weights", (name,), (("--as", role),))
        return _Step(command.text(self._make.workspace.root, explicit=True), run)

    def print_results(self) -> None:
        """The table of both models, and where the pictures are."""
        from crkd_cli.scores import print_scores

        print_scores(self._scores, list(_LOOKED_AT.values()))
        console.print_lines(
            "",
            f"teacher: camera + LiDAR ({SHIPPED['teacher']}). plain student: camera + radar ({SHIPPED['student']}).",
            f"Neither has seen this world (seed {self._counts['seed']}) in training.",
            "",
            *(str(path) for path in self._pictures),
        )


class _Demo:
    """Everything from a new world on, trained here."""

    def __init__(self, make: _Making, config: "Config", chosen: str, scenes: int, samples: int, seed: int) -> None:
        """`chosen` are the options that choose the configuration."""
        self._make = make
        self._config = config
        self._chosen = chosen
        self._counts = {"train_scenes": scenes, "samples_per_scene": samples, "seed": seed}
        self._scores: list[EvaluateResult] = []
        self._pictures: list[Path] = []

    def steps(self) -> list[_Step]:
        """Every step with the command it stands for."""
        counts, at = self._counts, self._make.at
        sizes = f"--scenes {counts['train_scenes']} --samples {counts['samples_per_scene']}"
        return [
            self._make.simulate(sizes + (f" --seed {counts['seed']}" if counts["seed"] else ""), counts),
            self._make.prepare(),
            _Step(f"crkd train-teacher {at}{self._chosen}", self._train_teacher),
            _Step(f"crkd extract-teacher {at}", self._extract_teacher),
            _Step(f"crkd distill {at} --losses none", lambda: self._distill(())),
            _Step(f"crkd distill {at} --name crkd", lambda: self._distill(None, name="crkd")),
            _Step(
                f"crkd distill {at} --losses none --init plain --name control",
                lambda: self._distill((), init="plain", name="control"),
            ),
            self._make.evaluate(tuple(MODELS), self._scores),
            self._make.visualize(tuple(MODELS), self._pictures),
        ]

    def _train_teacher(self) -> None:
        from crkd_core.stages.train_teacher import TrainTeacherRequest, train_teacher

        make = self._make
        request = TrainTeacherRequest(self._config, device=make.device, force=make.force)
        train_teacher(request, make.workspace, make.progress)

    def _extract_teacher(self) -> None:
        from crkd_core.stages.extract_teacher import ExtractRequest, extract_teacher

        make = self._make
        request = ExtractRequest(self._config, device=make.device, force=make.force)
        extract_teacher(request, make.workspace, make.progress)

    def _distill(self, losses: tuple[str, ...] | None, init: str = "auto", name: str | None = None) -> None:
        from crkd_core.stages.distill import DistillRequest, distill

        make = self._make
        request = DistillRequest(self._config, losses, init=init, name=name, device=make.device, force=make.force)
        distill(request, make.workspace, make.progress)

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
