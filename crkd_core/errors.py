"""What can go wrong, as exceptions whose text is one sentence a user can act on.

Every message says what was wrong, what was expected, what was found and what to do. The command line turns a
:class:`CrkdError` into a panel and the exit code below, without a traceback.
"""


class CrkdError(Exception):
    """Base of every error this project raises on purpose; ``exit_code`` is the exit status of the command."""

    exit_code = 1


class UsageError(CrkdError):
    """The request itself cannot be carried out: a wrong option, name or combination."""

    exit_code = 2


class ConfigError(UsageError):
    """A configuration value is unknown, of the wrong type, or does not fit the others."""


class DatasetError(CrkdError):
    """The nuScenes folder or one of its files is missing, damaged or not what it should be."""

    exit_code = 3


class ArtifactError(CrkdError):
    """A workspace artifact is missing, stale, damaged or made for something else."""

    exit_code = 4


class MissingArtifactError(ArtifactError):
    """A stage was asked to run before its input exists."""


class StaleArtifactError(ArtifactError):
    """An artifact was made from inputs or settings that have changed since."""


class DamagedArtifactError(ArtifactError):
    """A file of an artifact is missing, truncated or has other bytes than its manifest says.

    Attributes:
        problem: what is wrong, without the path before it and the remedy after it; "" where that was not said.
        command: what makes the artifact again, where that is known.
    """

    def __init__(self, message: str, problem: str = "", command: str | None = None) -> None:
        super().__init__(message)
        self.problem = problem
        self.command = command


class MisplacedArtifactError(DamagedArtifactError):
    """The folder of one artifact holds the manifest of another: it was copied or renamed by hand."""


class WriteError(CrkdError):
    """Something could not be written (a full disk, no permission); what was there before is untouched."""

    exit_code = 5


class TrainingError(CrkdError):
    """Training cannot go on, for instance because the loss is no longer finite."""

    exit_code = 6


class MetricsDifferError(CrkdError):
    """Our metrics and the nuScenes devkit's differ on the same detections."""


_MOST_LETTERS = 60
_LARGEST_SHOWN = 10**20


def quoted(value: object) -> str:
    """A value that somebody gave, as a message can show it: whatever it is, its first 60 letters."""
    if isinstance(value, int) and abs(value) > _LARGEST_SHOWN:
        # Python refuses to write out integers of some thousand digits.
        return f"a number of about {int(value.bit_length() * 0.30103) + 1} digits"
    if isinstance(value, str | bytes):
        text = repr(value[:_MOST_LETTERS])
        return text if len(value) <= _MOST_LETTERS else f"{text[:-1]}...{text[-1]}"
    try:
        text = repr(value)
    except ValueError:
        return "what holds a number of thousands of digits"
    return text if len(text) <= _MOST_LETTERS else f"{text[:_MOST_LETTERS]}..."
