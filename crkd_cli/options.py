"""Options that several commands share, declared once, and groups of those that come together."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from crkd_cli.session import Session, session_of
from crkd_core.artifacts.location import DEFAULT_WORKSPACE, WORKSPACE_VARIABLE

if TYPE_CHECKING:
    from crkd_core.artifacts.workspace import Workspace
    from crkd_core.config.schema import Config

# Beyond these a number is a slip: the command would only end when the machine is worn out.
MOST_PROCESSES = 1024
MOST_BATCH = 1024
MOST_WORKERS = 256
MOST_SWEEPS = 100
MOST_RESAMPLES = 10_000
MOST_ITEMS = 1_000_000
MOST_SEED = 2**63 - 1

_CONFIG_PANEL = "Configuration"
_RUN_PANEL = "Running"
_MACHINE_PANEL = "Machine"


def complete_preset(incomplete: str) -> list[tuple[str, str]]:
    """Names of presets, with what they are for."""
    from crkd_core.config.loading import describe_preset, preset_names

    return [(name, describe_preset(name)) for name in preset_names() if name.startswith(incomplete)]


def complete_run(stage: str, context: typer.Context, incomplete: str) -> list[str]:
    """Names of the finished runs of a stage in the workspace being typed."""
    root = Path(context.params.get("workspace") or DEFAULT_WORKSPACE)
    runs = sorted((root / stage).glob("*/manifest.json"))
    return [path.parent.name for path in runs if path.parent.name.startswith(incomplete)]


def complete_teacher(ctx: typer.Context, incomplete: str) -> list[str]:
    """Names of trained teachers."""
    return complete_run("train-teacher", ctx, incomplete)


def complete_student(ctx: typer.Context, incomplete: str) -> list[str]:
    """Names of trained students, and what else ``--init`` takes."""
    words = [word for word in ("auto", "none") if word.startswith(incomplete)]
    return words + complete_run("distill", ctx, incomplete)


def complete_model(ctx: typer.Context, incomplete: str) -> list[str]:
    """Names of trained models."""
    return complete_run("train-teacher", ctx, incomplete) + complete_run("distill", ctx, incomplete)


def complete_targets(ctx: typer.Context, incomplete: str) -> list[str]:
    """Names of extracted teacher targets."""
    return complete_run("extract-teacher", ctx, incomplete)


def complete_prepared(ctx: typer.Context, incomplete: str) -> list[str]:
    """Names of prepared data sets."""
    return complete_run("prepare", ctx, incomplete)


def complete_backbone(ctx: typer.Context, incomplete: str) -> list[str]:
    """Names of imported backbones, and none."""
    return [word for word in ("none",) if word.startswith(incomplete)] + complete_run("import-weights", ctx, incomplete)


def _set_debug(context: typer.Context, value: bool) -> None:
    if value:
        session_of(context).debug = True


def _set_quiet(context: typer.Context, value: bool) -> None:
    if value:
        session_of(context).quiet = True


WorkspaceOption = Annotated[
    Path,
    typer.Option("--workspace", "-w", envvar=WORKSPACE_VARIABLE, help="Folder of all artifacts.", show_default=True),
]
PresetOption = Annotated[
    str | None,
    typer.Option(
        "--preset",
        help="Configuration that comes with crkd (see: crkd presets).",
        autocompletion=complete_preset,
        rich_help_panel=_CONFIG_PANEL,
    ),
]
ConfigOption = Annotated[
    Path | None, typer.Option("--config", help="YAML file on top of the preset.", rich_help_panel=_CONFIG_PANEL)
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="SECTION.FIELD=VALUE",
        help="Override one value; may be repeated, the last wins.",
        rich_help_panel=_CONFIG_PANEL,
    ),
]
SetAfterOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set-after",
        metavar="SECTION.FIELD=VALUE",
        help="Like --set, but only for the students that go on from the plain one: control and distilled.",
        show_default=False,
        rich_help_panel=_CONFIG_PANEL,
    ),
]
DeviceOption = Annotated[
    str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.", rich_help_panel=_MACHINE_PANEL)
]
GpusOption = Annotated[
    int | None,
    typer.Option(
        "--gpus",
        min=1,
        max=MOST_PROCESSES,
        help="Number of GPUs of this machine to run on.",
        rich_help_panel=_MACHINE_PANEL,
    ),
]
ProcessesOption = Annotated[
    int | None,
    typer.Option(
        "--processes",
        min=1,
        max=MOST_PROCESSES,
        help="Number of CPU processes to run as, instead of GPUs.",
        rich_help_panel=_MACHINE_PANEL,
    ),
]
WorkersOption = Annotated[
    int,
    typer.Option(
        "--processes",
        min=1,
        max=MOST_PROCESSES,
        help="Processes that work side by side.",
        rich_help_panel=_MACHINE_PANEL,
    ),
]
BatchSizeOption = Annotated[
    int, typer.Option("--batch-size", min=1, max=MOST_BATCH, help="Samples at a time.", rich_help_panel=_MACHINE_PANEL)
]
PrecisionOption = Annotated[
    Literal["fp32", "bf16", "fp16"],
    typer.Option(
        "--precision",
        help="Number type to compute in; other than fp32 is an evaluation of its own.",
        rich_help_panel=_MACHINE_PANEL,
    ),
]
WeightsOption = Annotated[
    Literal["last", "ema", "best"] | None,
    typer.Option(
        "--weights",
        help="Which of a model's weights; those it stands for (train.*.final_weights).",
        show_default=False,
    ),
]
BackboneOption = Annotated[
    str | None,
    typer.Option(
        "--backbone",
        metavar="none|NAME",
        help="Imported weights to start the image backbone from; as the configuration says.",
        autocompletion=complete_backbone,
        show_default=False,
    ),
]
LoaderOption = Annotated[
    int,
    typer.Option(
        "--workers", min=0, max=MOST_WORKERS, help="Processes that read sensor files.", rich_help_panel=_MACHINE_PANEL
    ),
]
PreparedOption = Annotated[
    str | None,
    typer.Option(
        "--prepared", help="Name of the prepared data set; the latest with the split.", autocompletion=complete_prepared
    ),
]
TrainSplitOption = Annotated[
    str,
    typer.Option("--split", help="Samples to train on: train, trainval (train and val), or a split of splits.json."),
]
NuscenesOption = Annotated[
    Path | None,
    typer.Option("--nuscenes", help="Folder of the sensor files, if it has moved since crkd prepare."),
]
CompileOption = Annotated[
    bool,
    typer.Option("--compile", help="The same as --set train.compile=true.", rich_help_panel=_MACHINE_PANEL),
]
ForceOption = Annotated[
    bool, typer.Option("--force", help="Make it again and replace what is there.", rich_help_panel=_RUN_PANEL)
]
ResumeOption = Annotated[
    bool,
    typer.Option(
        "--resume/--no-resume", help="Continue what a stopped run left, or start over.", rich_help_panel=_RUN_PANEL
    ),
]
QuietOption = Annotated[
    bool,
    typer.Option(
        "--quiet",
        "-q",
        help="No progress; warnings and results only.",
        callback=_set_quiet,
        expose_value=False,
        rich_help_panel=_RUN_PANEL,
    ),
]
DebugOption = Annotated[
    bool,
    typer.Option(
        "--debug", help="Show tracebacks.", callback=_set_debug, expose_value=False, rich_help_panel=_RUN_PANEL
    ),
]


@dataclass(frozen=True)
class DataOptions:
    """Which prepared data."""

    prepared: PreparedOption = None
    nuscenes: NuscenesOption = None


@dataclass(frozen=True)
class ConfigOptions:
    """Which configuration."""

    preset: PresetOption = None
    config: ConfigOption = None
    overrides: SetOption = None

    @property
    def is_named(self) -> bool:
        """Whether a preset or a file is named."""
        return self.preset is not None or self.config is not None

    def resolve(self, session: Session, workspace: "Workspace", more: Sequence[str] = ()) -> "Config":
        """The configuration, with the overrides that other options stand for on top."""
        return session.config(workspace, self.preset, self.config, [*(self.overrides or ()), *more])


@dataclass(frozen=True)
class MachineOptions:
    """Which device, and how many processes."""

    device: DeviceOption = "auto"
    gpus: GpusOption = None
    processes: ProcessesOption = None

    def spread(self, session: Session) -> str:
        """The device of this process; see :func:`crkd_cli.relaunch.spread`."""
        from crkd_cli.relaunch import spread

        return spread(session, self.device, self.gpus, self.processes)


@dataclass(frozen=True)
class RunOptions:
    """What may happen to what is there, and what is shown."""

    force: ForceOption = False
    resume: ResumeOption = True
    quiet: QuietOption = False
    debug: DebugOption = False


@dataclass(frozen=True)
class TrainingOptions:
    """What every training command has, whichever detector it trains."""

    split: TrainSplitOption = "train"
    backbone: BackboneOption = None
    data: DataOptions = field(default_factory=DataOptions)
    config: ConfigOptions = field(default_factory=ConfigOptions)
    machine: MachineOptions = field(default_factory=MachineOptions)
    compile_dense: CompileOption = False
    run: RunOptions = field(default_factory=RunOptions)

    def resolve(self, session: Session, workspace: "Workspace", more: Sequence[str] = ()) -> "Config":
        """The configuration, with the overrides that other options stand for on top."""
        compiled = ["train.compile=true"] if self.compile_dense else []
        return self.config.resolve(session, workspace, [*compiled, *more])
