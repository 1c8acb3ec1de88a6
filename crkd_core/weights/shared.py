"""Weights with a manifest: the published format in half precision, and beside it a JSON file that says what they are.

The manifest brings the configuration, so that whoever imports them names no preset, and a checksum of the weights, by
which damage is noticed. The models that come with the package are such pairs of files.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from crkd_core.artifacts.atomic import write_text
from crkd_core.artifacts.manifest import FileRecord, digest_of, read_regular, record_file
from crkd_core.config.loading import validate_config
from crkd_core.config.schema import Config
from crkd_core.errors import ConfigError, DamagedArtifactError
from crkd_core.weights.catalogue import MANIFEST_SUFFIX, shipped_file
from crkd_core.weights.matching import StateDict, listed
from crkd_core.weights.recognise import Role

_KIND: Literal["crkd weights"] = "crkd weights"


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DataSet(_Record):
    """A data set that a model was trained or scored on.

    Attributes:
        version: such as ``v1.0-trainval``.
        simulation: every setting of a simulated world, its seed among them; None for recorded data.
    """

    version: str
    simulation: dict[str, Any] | None = None


class Score(_Record):
    """What a model scored, in float32; `mean_ap` and `nds` from 0 to 1."""

    data: DataSet
    split: str
    samples: int
    mean_ap: float
    nds: float


class WeightsManifest(_Record):
    """What shared weights are.

    Attributes:
        role: a teacher, a plain or a distilled student; `model` is what import-weights recognises, as ``teacher_r50``.
        weights: size and checksum of the safetensors file of the same name.
        precision: of the weights; batch norms and biases, which take no space, stay in float32.
        trained_on: None where the prepared data of the run are gone; `split`, `epochs` and `steps` of its training.
        scores: of all evaluations that its workspace had.
        commands: what made them, the oldest first; files are named without their folders.
        version: of crkd; `revision`: of its code, where it was said.
        config: the whole configuration of the training run.
        checksum: SHA-256 of all of the above.
    """

    kind: Literal["crkd weights"] = _KIND
    schema_version: Literal[1] = 1
    name: str
    role: Role
    model: str
    weights: FileRecord
    precision: Literal["fp16"] = "fp16"
    trained_on: DataSet | None = None
    split: str | None = None
    epochs: int | None = None
    steps: int | None = None
    scores: tuple[Score, ...] = ()
    commands: tuple[str, ...] = ()
    version: str
    revision: str | None = None
    config: dict[str, Any]
    checksum: str = Field(default="", pattern=r"^([0-9a-f]{64})?$")

    @property
    def contents_checksum(self) -> str:
        """SHA-256 of everything but the checksum itself."""
        return digest_of(self.model_dump(mode="json", exclude={"checksum"}))


@dataclass(frozen=True)
class WeightsFile:
    """A checkpoint file to import, and its manifest where it has one.

    Attributes:
        label: what messages call it: the path as it was given, or a shipped model's name.
        is_shipped: it came with the package.
    """

    path: Path
    label: str
    manifest: WeightsManifest | None = None
    is_shipped: bool = False

    def config(self) -> Config | None:
        """The configuration that the weights bring; None without a manifest.

        Raises:
            ConfigError: this version of crkd has other keys.
        """
        if self.manifest is None:
            return None
        try:
            return validate_config(self.manifest.config)
        except ConfigError as error:
            raise ConfigError(
                f"{self.label} brings a configuration that this version of crkd does not know: "
                f"{str(error).rstrip('.')}; import it with crkd {self.manifest.version}, or name one with --preset"
            ) from None


def find_weights(file: Path) -> WeightsFile:
    """The checkpoint that a path, or the name of a shipped model, means; the name comes before a file of that name.

    Raises:
        DamagedArtifactError: its manifest, or the weights beside it, are not what was written.
    """
    shipped = shipped_file(str(file))
    path = file if shipped is None else shipped
    weights = WeightsFile(path, str(file), is_shipped=shipped is not None)
    try:
        manifest = _read_manifest(path.with_suffix(MANIFEST_SUFFIX), expected=shipped is not None)
        if manifest is not None and path.exists() and record_file(path) != manifest.weights:
            raise ValueError(f"the checksum of {path.name} is not that in its manifest")
        if shipped is not None and not path.exists():
            raise ValueError(f"{path.name} is missing")
    except (ValueError, OSError, RecursionError) as error:
        raise _damaged(weights, str(error)) from None
    return WeightsFile(path, weights.label, manifest, weights.is_shipped)


def half_precision(state: Mapping[str, torch.Tensor]) -> StateDict:
    """The same with matrices and convolutions in float16; vectors stay, which are most of what rounding would hurt.

    Raises:
        ConfigError: a weight is beyond what float16 holds.
    """
    halved = {
        key: tensor.half() if tensor.dim() > 1 and tensor.is_floating_point() else tensor
        for key, tensor in state.items()
    }
    infinite = [key for key, tensor in halved.items() if tensor.is_floating_point() and not tensor.isfinite().all()]
    if infinite:
        raise ConfigError(f"half precision cannot hold {listed('of its tensors', infinite)}; use --format published")
    return halved


def write_manifest(path: Path, manifest: WeightsManifest) -> Path:
    """Write the manifest of the weights at `path` beside them; returns where.

    Raises:
        WriteError: the file cannot be written.
    """
    beside = path.with_suffix(MANIFEST_SUFFIX)
    sealed = manifest.model_copy(update={"checksum": manifest.contents_checksum})
    write_text(beside, sealed.model_dump_json(indent=1) + "\n")
    return beside


def _read_manifest(path: Path, expected: bool) -> WeightsManifest | None:
    """The manifest in a file; None where there is none, or (unless `expected`) the file is something else's.

    Raises:
        ValueError, OSError, RecursionError: it is damaged.
    """
    try:
        values = json.loads(read_regular(path))
    except (OSError, ValueError, RecursionError):
        if expected:
            raise
        return None
    if not expected and not (isinstance(values, dict) and values.get("kind") == _KIND):
        return None
    try:
        manifest = WeightsManifest.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"{path.name}, {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    if manifest.checksum != manifest.contents_checksum:
        raise ValueError(f"the checksum of {path.name} is not that of its contents")
    return manifest


def _damaged(weights: WeightsFile, problem: str) -> DamagedArtifactError:
    remedy = "install crkd again" if weights.is_shipped else "copy both files again"
    return DamagedArtifactError(f"{weights.label} is damaged: {problem}; {remedy}", problem=problem)
