"""A results file (any detector's nuScenes submission) as the source of an evaluation's detections."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from crkd_core.artifacts.command import Command
from crkd_core.artifacts.described import description_settings
from crkd_core.artifacts.location import absolute
from crkd_core.artifacts.manifest import InputRef, record_file
from crkd_core.artifacts.tables import write_table
from crkd_core.artifacts.workspace import Artifact, Workspace
from crkd_core.config.split_names import VAL
from crkd_core.datasets.nuscenes.version_folder import digest_tables
from crkd_core.datasets.prepared.evaluation_tables import find_tables, open_tables
from crkd_core.datasets.prepared.prepared_data import PreparedData
from crkd_core.datasets.prepared.source import STAGE as PREPARE_STAGE
from crkd_core.datasets.prepared.source import PreparedSource, find_prepared, pin_machine, prepared_with, split_slug
from crkd_core.errors import MissingArtifactError
from crkd_core.evaluation.devkit_check import require_comparable
from crkd_core.evaluation.evaluated_split import EvaluatedSplit
from crkd_core.evaluation.finished import TOKENS_NAME, evaluated_tokens
from crkd_core.evaluation.identity import STAGE, Subject, Variant, choose_name
from crkd_core.evaluation.io.detections import TABLE_NAME
from crkd_core.evaluation.io.results_file import Results, explain_unreadable, read_results
from crkd_core.evaluation.nuscenes.metrics import Metrics
from crkd_core.evaluation.report import AnalysisRequest
from crkd_core.evaluation.sensor_inputs import SensorInput
from crkd_core.progress import Progress

_SHOWN_BEYOND_RANGE_M = 4.0


@dataclass(frozen=True)
class ResultsRequest:
    """A results file to evaluate.

    Attributes:
        file: detections in the nuScenes result format, every sample of the split.
        split: train, val or test, both of the first as ``trainval``, or a split name such as ``mini_val``.
        nuscenes: folder of the data set: its tables are read where nothing fitting is prepared, and by `official`.
        version: of the tables there; None for the only one that can have the split.
        prepared: name of the prepared data; None for the latest that have the split.
        official: run the data set's devkit too, on the file and the data set's own tables, and compare.
        subset: the file has only some samples of the split, and is scored on these.
        analysis: what is wanted beyond the scores; None for nothing.
        command: as it was given, for the manifest; None where there was none.
    """

    file: Path
    split: str = VAL
    nuscenes: Path | None = None
    prepared: str | None = None
    official: bool = False
    force: bool = False
    version: str | None = None
    subset: bool = False
    analysis: AnalysisRequest | None = None
    command: Command | None = None


@dataclass
class ResultsSource:
    """A results file, and the data it is scored on.

    Attributes:
        sha256: of the file.
        split: official name.
        results: what the file says, once it was read.
    """

    request: ResultsRequest
    sha256: str
    prepared: PreparedData
    split: str
    results: Results | None = None

    @property
    def subject(self) -> Subject:
        """What is scored."""
        return Subject.of_file(self.request.file)

    @property
    def settings(self) -> dict[str, Any]:
        """What determines the detections beside the inputs."""
        results = {"file": self.request.file.name, "sha256": self.sha256}
        settings = {"split": self.split, "results": results} | ({"subset": True} if self.request.subset else {})
        return settings | description_settings(self.prepared.description)

    @property
    def inputs(self) -> dict[str, InputRef]:
        """Artifacts that the evaluation is made from, by role."""
        return {"prepared": self.prepared.artifact.reference()}

    def name(self, workspace: Workspace) -> str:
        """What the evaluation is called."""
        slug, data = split_slug(self.request.split), self.prepared.artifact.name
        return choose_name(workspace, self.subject, slug, self.split, data, Variant(subset=self.request.subset))

    def command(self) -> Command:
        """The command that makes this evaluation again, whatever data come later."""
        request = self.request
        command = (request.command or Command(STAGE)).setting("--results", absolute(request.file))
        command = command.setting("--split", request.split)
        if request.subset:
            command = command.setting("--subset")
        command = pin_machine(command, request.nuscenes, "auto")
        if self.prepared.artifact.stage == PREPARE_STAGE:
            return command.without("--version").setting("--prepared", self.prepared.artifact.name)
        return command.setting("--version", self.prepared.version)

    def read(self, progress: Progress) -> Results:
        """The detections of the file, read once.

        Raises:
            UsageError: the file is not what the benchmark accepts.
        """
        if self.results is None:
            request = self.request
            self.results = read_results(request.file, self.prepared, self.split, progress, request.subset)
        return self.results

    def fill(self, folder: Path, rank: int, size: int, progress: Progress) -> None:
        """Nothing is to be detected."""

    def write(self, folder: Path, progress: Progress) -> tuple[EvaluatedSplit, pa.Table]:
        """Write the table of detections, and of a subset its samples; returns the samples and the table."""
        results = self.read(progress)
        write_table(folder / TABLE_NAME, results.table)
        if self.request.subset:
            scored = set(results.tokens)
            tokens = [token for token in self.prepared.tokens(self.split) if token in scored]
            write_table(folder / TOKENS_NAME, pa.table({"sample_token": tokens}))
        return EvaluatedSplit(self.prepared, self.split, results.tokens), results.table

    def samples_of(self, finished: Artifact) -> EvaluatedSplit:
        """The samples of a finished evaluation of this source."""
        return EvaluatedSplit(self.prepared, self.split, evaluated_tokens(finished, self.prepared))

    def submission(self, folder: Path) -> Path:
        """The nuScenes result file."""
        return self.request.file

    def sensor_inputs(self) -> tuple[SensorInput, ...]:
        """Nobody knows what the detector was given."""
        return ()

    def facts(self, samples: EvaluatedSplit, metrics: Metrics | None) -> dict[str, Any]:
        """What is worth knowing of the finished evaluation without opening its files."""
        facts: dict[str, Any] = {
            "model": self.subject.name,
            "file": str(self.subject.file),
            "role": None,
            "modalities": list(self.results.modalities if self.results is not None else ()),
            "samples": len(samples.tokens),
            "extent_m": self.prepared.description.farthest_m + _SHOWN_BEYOND_RANGE_M,
        }
        scores = {} if metrics is None else {"mean_ap": metrics.mean_ap, "nds": metrics.nds}
        return facts | scores | {"split": self.split, **samples.facts()}


def open_results(request: ResultsRequest, workspace: Workspace, progress: Progress) -> ResultsSource:
    """The results file and the data it is scored on; it is read at once, unless it was evaluated already.

    Raises:
        UsageError: the file is not what the benchmark accepts, or the version has no such split.
        MissingArtifactError: nothing is prepared, and no folder of tables is named.
        DatasetError: the split is empty, or the tables are damaged.
    """
    with explain_unreadable(request.file):
        sha256 = record_file(request.file).sha256
    prepared = _open_data(request, workspace, progress)
    split = prepared.official_split(request.split)
    if request.official:
        require_comparable(prepared, split)
    source = ResultsSource(request, sha256, prepared, split)
    existing = workspace.finished(STAGE, source.name(workspace))
    is_known = existing is not None and (existing.manifest.settings, existing.manifest.inputs) == (
        source.settings,
        source.inputs,
    )
    if request.force or not is_known:
        # Read before anything is written: a file that is refused leaves no trace.
        source.read(progress)
    return source


def _open_data(request: ResultsRequest, workspace: Workspace, progress: Progress) -> PreparedData:
    """Prepared data that have the split, or the tables of the named folder where these are others."""
    needed_for = f"crkd {STAGE} --results"
    if request.nuscenes is None and not workspace.artifacts(PREPARE_STAGE):
        raise MissingArtifactError(
            f"{needed_for} needs the tables of a data set, and {workspace.root} has none prepared; name its folder "
            "with --nuscenes DIR, or prepare it with: crkd prepare --nuscenes DIR"
        )
    if request.nuscenes is None or request.prepared is not None:
        source = PreparedSource(request.split, progress=progress)
        artifact = find_prepared(workspace, request.prepared, needed_for, source)
        return PreparedData(artifact, request.nuscenes)
    version = find_tables(request.nuscenes, request.version, request.split)
    candidates = [PreparedData(artifact, request.nuscenes) for artifact in prepared_with(workspace, request.split)]
    candidates = [data for data in candidates if data.version == version and not data.left_out_tokens(request.split)]
    if candidates:
        digest = digest_tables(request.nuscenes / version)
        for data in reversed(candidates):
            settings = data.artifact.manifest.settings
            if settings["tables_sha256"] == digest and "splits" not in settings:
                artifact = workspace.find(PREPARE_STAGE, data.artifact.name, needed_for=needed_for, make="crkd prepare")
                return PreparedData(artifact, request.nuscenes)
    return open_tables(workspace, request.nuscenes, version, request.file, progress)
