"""Help is quick and complete, and flags do not come or go unnoticed."""

import json

import pytest
import typer

from crkd_cli.app import app
from crkd_core.config.distill import LOSS_NAMES

HEAVY = {"torch", "numpy", "pydantic", "pyarrow", "nuscenes", "matplotlib", "yaml", "cv2", "PIL", "safetensors"}

_REPORTING = {"--debug", "--quiet"}
_CONFIG = {"--preset", "--config", "--set"}
_MACHINE = {"--device", "--gpus", "--processes"}
_INPUTS = {"--workspace", "--prepared", "--nuscenes"}
_REDO = {"--force", "--resume", "--no-resume"}
_TRAINING = _REPORTING | _CONFIG | _MACHINE | _INPUTS | _REDO | {"--name"}

FLAGS = {
    "prepare": _REPORTING
    | _CONFIG
    | _REDO
    | {"--workspace", "--nuscenes", "--version", "--name", "--allow-missing", "--allow-outside", "--check"}
    | {"--radar-sweeps", "--lidar-sweeps", "--processes", "--dataset", "--val-scenes", "--describe", "--out"},
    "train-teacher": _TRAINING | {"--compile", "--init", "--split", "--backbone"},
    "extract-teacher": _TRAINING | {"--teacher", "--plan", "--verify", "--split"},
    "distill": _TRAINING
    | {"--compile", "--losses", "--teacher", "--targets", "--init"}
    | {"--log-gradients", "--split", "--backbone"},
    "evaluate": _REPORTING
    | _CONFIG
    | {"--workspace", "--model", "--all", "--split", "--prepared", "--nuscenes", "--batch-size", "--workers"}
    | _MACHINE
    | {"--official", "--results", "--breakdown", "--bootstrap", "--curves", "--precision", "--weights"}
    | {"--json", "--force", "--subset", "--version"},
    "visualize": _REPORTING
    | {"--workspace", "--split", "--samples", "--token", "--model", "--missed", "--score", "--seed"}
    | {"--nuscenes", "--force"},
    "compare": _REPORTING
    | {"--workspace", "--split", "--breakdown", "--bootstrap", "--score", "--nuscenes", "--batch-size", "--workers"}
    | {"--device", "--json", "--force"},
    "ablate": _TRAINING | {"--comparison", "--seeds", "--split", "--teacher", "--plan", "--set-after"},
    "status": {"--workspace", "--thorough", "--json", "--debug"},
    "import-weights": _REPORTING | _CONFIG | {"--workspace", "--as", "--name", "--ema", "--force"},
    "export-weights": _REPORTING | {"--workspace", "--out", "--format", "--revision", "--force"},
    "demo": _REPORTING
    | {"--workspace", "--look", "--scenes", "--samples", "--seed"}
    | {"--preset", "--set", "--device", "--processes", "--force"},
    "simulate": _REPORTING
    | {
        "--out",
        "--size",
        "--format",
        "--rig",
        "--kind",
        "--scenes",
        "--val-scenes",
        "--samples",
        "--seed",
        "--set",
        "--processes",
        "--force",
    },
    "presets": {"--debug"},
}


def test_help_imports_nothing_heavy(start_python):
    script = (
        "import json, sys\n"
        "from crkd_cli.app import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit as ended:\n    code = ended.code\n"
        "sys.stderr.write(json.dumps([code, sorted({name.partition('.')[0] for name in sys.modules})]))\n"
    )
    out, err = start_python("-c", script).communicate(timeout=60)
    code, modules = json.loads(err)
    assert code == 0
    assert "typer" in modules
    assert not HEAVY & set(modules)
    assert all(command in out for command in FLAGS)


def test_flags_of_every_command_are_frozen():
    commands = typer.main.get_command(app).commands
    flags = {
        name: {
            flag
            for parameter in command.params
            if parameter.param_type_name == "option"
            for flag in (*parameter.opts, *parameter.secondary_opts)
            if flag.startswith("--") and flag != "--help"
        }
        for name, command in commands.items()
    }
    assert flags == FLAGS


@pytest.mark.parametrize("command", sorted(FLAGS))
def test_every_flag_is_explained(crkd, command):
    result = crkd(command, "--help")
    assert result.code == 0
    assert all(flag in result.out for flag in FLAGS[command])


def test_version(crkd):
    from crkd_core import __version__

    assert crkd("--version").out == f"crkd {__version__}\n"


def test_no_arguments_show_help(crkd):
    result = crkd()
    assert "prepare" in result.out + result.err
    assert result.code in (0, 2)


def test_help_names_the_losses_that_there_are(crkd):
    help_text = " ".join(crkd("distill", "--help").out.replace("│", " ").split())
    assert f"Losses to distil with ({', '.join(LOSS_NAMES)}), or none" in help_text
