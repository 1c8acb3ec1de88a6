"""Manifests: what an artifact is, what it was made from, and the checksums of its files."""

import errno
import hashlib
import io
import json
import os
import re
import stat
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from crkd_core.artifacts.command import command_text, first_command, unknown_inputs
from crkd_core.artifacts.contents import contents_problem
from crkd_core.artifacts.location import run_name
from crkd_core.errors import DamagedArtifactError

SCHEMA_VERSION: Literal[1] = 1
MANIFEST_NAME = "manifest.json"
REQUEST_NAME = "request.json"
LOG_FOLDER = "logs/"
_LARGEST_BYTES = 1 << 28
_COMMAND = re.compile(r'"command": ("(?:[^"\\]|\\.)*")')


def _inside(path: str) -> str:
    if not path or path != PurePosixPath(path).as_posix() or path.startswith("/") or ".." in path.split("/"):
        raise ValueError("expected a path below the artifact")
    return path


def _one_folder(name: str) -> str:
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise ValueError("expected the name of a folder")
    return name


_FolderName = Annotated[str, AfterValidator(_one_folder)]
_RelativePath = Annotated[str, AfterValidator(_inside)]
_Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class InputRef(BaseModel):
    """An artifact that another was made from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    stage: _FolderName
    name: _FolderName
    digest: _Sha256


class FileRecord(BaseModel):
    """Size in bytes and SHA-256 of one file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    size: int = Field(ge=0)
    sha256: _Sha256


class Manifest(BaseModel):
    """Identity of one finished artifact.

    Attributes:
        stage, name: where it lives in the workspace.
        created: time of completion, ISO 8601 (not part of the digest).
        command: the command that remakes it, with its workspace; paths are absolute.
        settings: what of the configuration and options determined its contents.
        inputs: role to artifact it was made from.
        facts: results worth knowing without opening files (JSON values; not part of the digest).
        files: relative path to size and checksum.
        follows: the trained model whose configuration it kept to, where it was given none of its own.
        checksum: SHA-256 of all of the above as JSON values; None in manifests of the first versions of crkd.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[1] = SCHEMA_VERSION
    stage: _FolderName
    name: _FolderName
    created: str
    command: str
    settings: dict[str, Any] = Field(default_factory=dict)
    inputs: dict[str, InputRef] = Field(default_factory=dict)
    facts: dict[str, Any] = Field(default_factory=dict)
    files: dict[_RelativePath, FileRecord] = Field(default_factory=dict)
    follows: InputRef | None = None
    checksum: str | None = None

    def sealed(self) -> "Manifest":
        """The same with the checksum of its contents, by which damage is noticed when it is read."""
        return self.model_copy(update={"checksum": _checksum_of(json.loads(self.model_dump_json()))})

    @property
    def fingerprint(self) -> str:
        """Digest of what determined the contents: stage, settings and inputs."""
        return fingerprint_of(self.stage, self.settings, self.inputs)

    @property
    def digest(self) -> str:
        """Digest of the contents: fingerprint and file checksums, logs (which hold times) left out."""
        contents = {p: record.sha256 for p, record in sorted(self.files.items()) if not p.startswith(LOG_FOLDER)}
        return digest_of([self.fingerprint, contents])


def digest_of(value: Any) -> str:
    """SHA-256 of a JSON-like value in canonical form."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def fingerprint_of(stage: str, settings: Mapping[str, Any], inputs: Mapping[str, InputRef]) -> str:
    """Digest of a request: equal fingerprints make equal artifacts."""
    return digest_of([SCHEMA_VERSION, stage, settings, {role: ref.digest for role, ref in sorted(inputs.items())}])


def _checksum_of(values: dict[str, Any]) -> str:
    return digest_of({key: value for key, value in values.items() if key != "checksum"})


def record_file(path: Path) -> FileRecord:
    """Size and checksum of a file on disk.

    Raises:
        OSError: it cannot be read, or is no regular file.
    """
    with _open_regular(path) as stream:
        return FileRecord(size=os.fstat(stream.fileno()).st_size, sha256=_sha256(stream))


def read_regular(path: Path) -> bytes:
    """The contents of a small file.

    Raises:
        OSError: it cannot be read, is no regular file, or is far too large.
    """
    with _open_regular(path) as stream:
        if os.fstat(stream.fileno()).st_size > _LARGEST_BYTES:
            raise OSError(errno.EFBIG, f"it is larger than {_LARGEST_BYTES >> 20} MiB")
        return stream.read()


def _open_regular(path: Path) -> io.BufferedReader:
    # Without O_NONBLOCK, opening a named pipe waits for ever.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is no regular file")
    return open(descriptor, "rb")


def _sha256(stream: io.BufferedReader) -> str:
    if hasattr(hashlib, "file_digest"):  # Python 3.11 and later
        return hashlib.file_digest(stream, "sha256").hexdigest()
    checksum = hashlib.sha256()
    while block := stream.read(1 << 20):
        checksum.update(block)
    return checksum.hexdigest()


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of a finished artifact, None where there is none.

    Raises:
        DamagedArtifactError: the file is not what a stage wrote.
    """
    path = folder / MANIFEST_NAME
    try:
        raw = read_regular(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise _damaged(folder, f"it cannot be read: {error.strerror or error}") from None
    try:
        manifest = Manifest.model_validate_json(raw)
        problem = _problem(manifest, json.loads(raw))
    except ValidationError as error:
        first = error.errors()[0]
        problem = ": ".join(part for part in (".".join(map(str, first["loc"])), first["msg"]) if part)
    except (ValueError, RecursionError) as error:
        problem = str(error)
    if problem:
        raise _damaged(folder, problem, raw)
    return manifest


def _damaged(folder: Path, problem: str, raw: bytes = b"") -> DamagedArtifactError:
    stage, root = folder.parent.name, folder.parent.parent
    recorded, is_own = _recorded_command(raw), _may_be_artifact(raw)
    command = command_text(recorded or first_command(stage, run_name(folder.name)), root, force=is_own)
    unknown = "" if recorded else unknown_inputs(stage)
    remedy = "make it again with" if is_own else f"move {folder}, which something else made, away and make it with"
    return DamagedArtifactError(
        f"{folder / MANIFEST_NAME} is damaged ({problem}): expected a manifest as crkd writes it; "
        f"{unknown and unknown + '; '}{remedy}: {command}",
        problem=f"its manifest: {problem}{unknown and '; ' + unknown}",
        command=recorded,
    )


def owned_files(folder: Path, stage: str, name: str) -> set[str] | None:
    """The files that the manifest in `folder` lists, also where the rest of it is damaged.

    None where there is no manifest of that artifact.
    """
    with suppress(OSError, ValueError, RecursionError, TypeError, AttributeError, LookupError):
        values = json.loads(read_regular(folder / MANIFEST_NAME))
        if (values["stage"], values["name"]) == (stage, name):
            with suppress(ValueError):
                return {_inside(path) for path in values["files"]}
    return None


def _problem(manifest: Manifest, values: dict[str, Any]) -> str | None:
    if "checksum" in values:
        return None if values["checksum"] == _checksum_of(values) else "its checksum is not that of its contents"
    try:
        zone = datetime.fromisoformat(manifest.created).tzinfo
    except ValueError:
        zone = None
    if zone is None:
        return f"created is {manifest.created!r}, no time with a time zone"
    return contents_problem(manifest.stage, manifest.facts, manifest.settings, manifest.inputs)


def _may_be_artifact(raw: bytes) -> bool:
    """Whether a damaged manifest may have been one; a whole JSON object without a stage was not."""
    with suppress(ValueError, RecursionError):
        values = json.loads(raw)
        return not isinstance(values, dict) or "stage" in values
    return True


def _recorded_command(raw: bytes) -> str | None:
    """The command in a manifest that is damaged elsewhere."""
    text = _COMMAND.search(raw.decode("utf-8", errors="replace"))
    with suppress(ValueError):
        command = json.loads(text.group(1)) if text else ""
        return command if command.startswith("crkd ") and command.isprintable() else None
    return None
