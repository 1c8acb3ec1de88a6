"""Reading the text of settings from files that people write."""

import stat
from pathlib import Path

from crkd_core.errors import ConfigError

_MOST_BYTES = 2**20
_LONGEST_SHOWN = 100


def read_setting_file(file: Path, kind: str) -> str:
    """The text of a YAML file.

    Args:
        kind: what the file is, for messages, such as ``the config file``.

    Raises:
        ConfigError: it cannot be read, is no regular file, too large or no text.
    """
    try:
        status = file.stat()
        if not stat.S_ISREG(status.st_mode):
            # Neither a pipe nor a device gives the same text again to whoever repeats the command.
            actual_kind = "a folder" if stat.S_ISDIR(status.st_mode) else "no regular file"
            raise ConfigError(f"{kind} {file} is {actual_kind}; write the YAML to a file and name that.")
        if status.st_size > _MOST_BYTES:
            raise ConfigError(f"{kind} {file} has {status.st_size} bytes, which no configuration needs.")
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{kind} {str(file)[:_LONGEST_SHOWN]} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError:
        raise ConfigError(f"{kind} {file} is not UTF-8 text; expected YAML.") from None
