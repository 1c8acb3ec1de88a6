"""Which student a request means: losses, name, schedule and what it starts from."""

import pytest

from crkd_core.artifacts.workspace import Workspace
from crkd_core.artifacts.writer import ArtifactRequest
from crkd_core.config.distill import LOSS_NAMES
from crkd_core.config.loading import load_config, with_overrides
from crkd_core.errors import MissingArtifactError, UsageError
from crkd_core.progress import SilentProgress
from crkd_core.training.student import StudentRequest, choose_student, without_calibration

CONFIG = with_overrides(
    load_config("tiny"), ["train.student.backbone_weights=none", "train.distill.backbone_weights=none"]
)
SILENT = SilentProgress()


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path / "workspace")


@pytest.fixture
def with_plain(workspace):
    """A workspace that has a plain student."""
    request = ArtifactRequest("distill", "plain", "crkd distill --losses none", {"role": "student"})
    with workspace.write(request) as writer:
        writer.finish()
    return workspace


def choose(workspace, **request):
    return choose_student(StudentRequest(CONFIG, **request), workspace, SILENT)


@pytest.mark.parametrize(
    ("losses", "init", "name"),
    [
        ((), "auto", "plain"),
        ((), "plain", "control"),
        (LOSS_NAMES, "auto", "crkd"),
        (LOSS_NAMES[::-1], "auto", "crkd"),
        (LOSS_NAMES[1:3], "none", f"crkd-{LOSS_NAMES[1]}-{LOSS_NAMES[2]}"),
    ],
)
def test_a_run_is_called_after_its_losses_and_its_start(with_plain, losses, init, name):
    assert choose(with_plain, losses=losses, init=init).name == name
    assert choose(with_plain, losses=losses, init=init, name="other").name == "other"


def test_the_plain_student_has_no_calibration_and_a_schedule_of_its_own(with_plain):
    plain, control = choose(with_plain, losses=()), choose(with_plain, losses=(), init="plain")
    assert (plain.detector, plain.schedule) == (without_calibration(CONFIG.student), CONFIG.train.student)
    assert (control.detector, control.schedule) == (CONFIG.student, CONFIG.train.distill)
    assert (plain.weights.init, control.weights.init) == ("none", "plain")
    assert list(control.weights.inputs) == ["start"]


def test_a_distilled_student_starts_from_the_plain_one_where_there_is_one(with_plain, tmp_path):
    assert choose(with_plain, losses=("respd",)).weights.init == "plain"
    assert choose(Workspace(tmp_path / "empty"), losses=("respd",)).weights.init == "none"
    with pytest.raises(MissingArtifactError, match="crkd distill --losses none"):
        choose(with_plain, losses=("respd",), init="absent")


def test_losses_that_do_not_exist_and_a_run_that_starts_from_itself_are_refused(with_plain):
    with pytest.raises(UsageError, match="no loss called 'csdr'"):
        choose(with_plain, losses=("csdr",))
    with pytest.raises(UsageError, match="cannot start from itself"):
        choose(with_plain, losses=(), init="plain", name="plain")
