"""Manifests: what an artifact is, what it was made from, and the checksums of its files."""

import hashlib
import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from crkd_core.errors import DamagedArtifactError

SCHEMA_VERSION = 1
MANIFEST_NAME = "manifest.json"
LOG_FOLDER = "logs/"


class InputRef(BaseModel):
    """An artifact that another was made from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    stage: str
    name: str
    digest: str


class FileRecord(BaseModel):
    """Size in bytes and SHA-256 of one file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    size: int
    sha256: str


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
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: int = SCHEMA_VERSION
    stage: str
    name: str
    created: str
    command: str
    settings: dict[str, Any] = Field(default_factory=dict)
    inputs: dict[str, InputRef] = Field(default_factory=dict)
    facts: dict[str, Any] = Field(default_factory=dict)
    files: dict[str, FileRecord] = Field(default_factory=dict)
    follows: InputRef | None = None

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


def fingerprint_of(stage: str, settings: dict[str, Any], inputs: dict[str, InputRef]) -> str:
    """Digest of a request: equal fingerprints make equal artifacts."""
    return digest_of([SCHEMA_VERSION, stage, settings, {role: ref.digest for role, ref in sorted(inputs.items())}])


def record_file(path: Path) -> FileRecord:
    """Size and checksum of a file on disk."""
    with path.open("rb") as stream:
        checksum = hashlib.file_digest(stream, "sha256") if hasattr(hashlib, "file_digest") else _sha256(stream)
    return FileRecord(size=path.stat().st_size, sha256=checksum.hexdigest())


def _sha256(stream):
    checksum = hashlib.sha256()
    while block := stream.read(1 << 20):
        checksum.update(block)
    return checksum


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of a finished artifact, None where there is none.

    Raises:
        DamagedArtifactError: the file is not a manifest of this version.
    """
    path = folder / MANIFEST_NAME
    try:
        return Manifest.model_validate_json(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise DamagedArtifactError(
            f"{path} cannot be read: {error.strerror or error}; check its permissions."
        ) from None
    except (ValidationError, UnicodeDecodeError, ValueError):
        raise DamagedArtifactError(
            f"{path} is damaged: expected a manifest of schema version {SCHEMA_VERSION}; remove {folder} "
            f"and make it again."
        ) from None
