"""Identity of evaluations: a model's run or a results file, on a split of prepared data; never a name alone."""

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from crkd_core.artifacts.find_model import MODEL_STAGES
from crkd_core.artifacts.location import absolute
from crkd_core.artifacts.workspace import Artifact, Workspace
from crkd_core.config.train import WeightsKind
from crkd_core.errors import UsageError
from crkd_core.evaluation.precision import FULL_PRECISION, Precision

STAGE = "evaluate"
_LONGEST_NAME = 80
_DIGEST_LENGTH = 8


@dataclass(frozen=True)
class Subject:
    """What was scored.

    Attributes:
        name: of the run, or of the results file in letters that all stages accept.
        stage: of the run; None for a results file.
        file: the results file.
    """

    name: str
    stage: str | None = None
    file: Path | None = None

    @staticmethod
    def of_file(file: Path) -> "Subject":
        """A results file, wherever the command that names it is run."""
        return Subject(_safe(file.name.removesuffix(".json")) or "results", file=absolute(file))

    @staticmethod
    def of(evaluation: Artifact) -> "Subject":
        """What a finished evaluation scored."""
        model, facts = evaluation.manifest.inputs.get("model"), evaluation.manifest.facts
        if model is not None:
            return Subject(model.name, model.stage)
        # An earlier version did not write down the file's path.
        return Subject(facts["model"], file=Path(facts["file"]) if "file" in facts else None)

    @property
    def names(self) -> Iterator[str]:
        """What its evaluation may be called, the shortest first."""
        yield self.name
        if self.stage is not None:
            yield f"{self.stage}-{self.name}"
        elif self.file is not None:
            yield _safe(f"{self.file.parent.name}-{self.name}")
            digest = hashlib.sha256(str(self.file).encode("utf-8")).hexdigest()[:_DIGEST_LENGTH]
            yield f"{self.name}-{digest}"

    @property
    def titles(self) -> Iterator[str]:
        """What tables may call it, the shortest first."""
        yield self.name
        if self.stage is not None:
            yield f"{self.stage}/{self.name}"
        elif self.file is not None:
            parts = self.file.parts
            yield from ("/".join(parts[-count:]).replace("//", "/") for count in range(2, len(parts) + 1))


@dataclass(frozen=True)
class Variant:
    """What else tells evaluations of one subject on one split apart.

    Attributes:
        precision: number type that a model computed in.
        subset: it is on some samples of the split only.
        weights: kind of a model's weights; None: those that its run stands for.
    """

    precision: Precision = FULL_PRECISION
    subset: bool = False
    weights: WeightsKind | None = None

    @staticmethod
    def of(evaluation: Artifact) -> "Variant":
        """That of a finished evaluation."""
        settings = evaluation.manifest.settings
        subset = bool(settings.get("subset", False))
        return Variant(settings.get("precision", FULL_PRECISION), subset, settings.get("weights"))

    @property
    def is_usual(self) -> bool:
        """Whether a model is evaluated as it is used."""
        return self.precision == FULL_PRECISION and self.weights is None

    @property
    def suffix(self) -> str:
        """What the name of the evaluation says of it."""
        precision = None if self.precision == FULL_PRECISION else self.precision
        return "".join(f"-{part}" for part in (self.weights, precision, "subset" if self.subset else None) if part)


def choose_name(
    workspace: Workspace,
    subject: Subject,
    asked_split: str,
    split: str,
    prepared: str | None,
    variant: Variant = Variant(),
) -> str:
    """The name of an evaluation: that of the earlier one of the same, else one that no other has.

    Args:
        asked_split: as the user called it, which the name says; `split` is its official name.
        prepared: name of the prepared data.
    """
    existing = {evaluation.name: evaluation for evaluation in workspace.artifacts(STAGE)}
    same = (subject, split, prepared, variant)
    asked_split += variant.suffix
    earlier = [name for name, evaluation in existing.items() if _identity(evaluation) == same]
    if earlier:
        return earlier[-1]
    for name in subject.names:
        for candidate in (f"{name}-{asked_split}", f"{name}-{asked_split}-{prepared}"):
            if candidate not in existing:
                return candidate
            if Subject.of(existing[candidate]) != subject:
                break
    count = 2
    while (candidate := f"{name}-{count}-{asked_split}") in existing:
        count += 1
    return candidate


def titles_of(evaluations: Sequence[Artifact]) -> list[str]:
    """What a table calls evaluations: names of runs or files where they tell them apart, more of them where not."""
    choices = {evaluation.path: [*Subject.of(evaluation).titles, evaluation.label] for evaluation in evaluations}
    level = dict.fromkeys(choices, 0)
    while True:
        titles = {path: choices[path][level[path]] for path in choices}
        unclear = [
            path
            for path, title in titles.items()
            if list(titles.values()).count(title) > 1 and level[path] < len(choices[path]) - 1
        ]
        if not unclear:
            return [titles[evaluation.path] for evaluation in evaluations]
        for path in unclear:
            level[path] += 1


def handle_of(evaluation: Artifact, workspace: Workspace) -> str:
    """The word by which a command finds exactly this evaluation."""
    subject = Subject.of(evaluation)
    of_subject = [other for other in workspace.artifacts(STAGE) if Subject.of(other) == subject]
    splits = [other.manifest.facts["split"] for other in of_subject]
    is_only_one = splits.count(evaluation.manifest.facts["split"]) <= 1
    return f"{subject.stage}/{subject.name}" if subject.stage is not None and is_only_one else evaluation.label


def evaluations_of(workspace: Workspace, split: str) -> list[Artifact]:
    """The finished evaluations on a split, called as the user or the benchmark does.

    The oldest first, and those in reduced precision or of other weights before all others, so that the last of a model
    is its usual one.
    """
    on_split = []
    for evaluation in workspace.artifacts(STAGE):
        official = evaluation.manifest.facts["split"]
        if split in (official, official.removeprefix("mini_")):
            on_split.append(evaluation)
    return sorted(on_split, key=lambda evaluation: Variant.of(evaluation).is_usual)


def find_evaluation(workspace: Workspace, word: str, split: str, needed_for: str) -> Artifact | None:
    """The latest evaluation that a user's word means; None where there is none (yet).

    Args:
        word: name of a run or results file, ``stage/name`` of a run, or (``evaluate/``) name of the evaluation itself.
        needed_for: the command, for messages.

    Raises:
        UsageError: it may mean several.
        DamagedArtifactError: what it would mean cannot be read.
    """
    evaluation = _meant(workspace, word, split, needed_for)
    if evaluation is None:
        name = word.rpartition("/")[2]
        for label in {f"{name}-{split}", name} & set(workspace.names(STAGE)):
            workspace.get(STAGE, label)  # which says what is wrong with it, if anything is
    return evaluation


def _meant(workspace: Workspace, word: str, split: str, needed_for: str) -> Artifact | None:
    stage, _, name = word.rpartition("/")
    on_split = evaluations_of(workspace, split)
    if stage == STAGE:
        exact = {evaluation.name: evaluation for evaluation in workspace.artifacts(STAGE)}
        return exact.get(name) or exact.get(f"{name}-{split}")
    if stage:
        return next((other for other in reversed(on_split) if Subject.of(other) == Subject(name, stage)), None)
    meant = [evaluation for evaluation in on_split if Subject.of(evaluation).name == name]
    handles = dict.fromkeys(_short_handle(evaluation) for evaluation in meant)
    for model_stage in MODEL_STAGES:
        if (workspace.root / model_stage / name / "manifest.json").exists():
            handles.setdefault(f"{model_stage}/{name}")
    if len(handles) > 1:
        raise UsageError(f"{needed_for}: {name!r} may mean {' or '.join(sorted(handles))}; name one of them in full.")
    exact_name = [evaluation for evaluation in workspace.artifacts(STAGE) if evaluation.name == name]
    return next(reversed(meant or exact_name), None)


def _short_handle(evaluation: Artifact) -> str:
    subject = Subject.of(evaluation)
    return evaluation.label if subject.stage is None else f"{subject.stage}/{subject.name}"


def _identity(evaluation: Artifact) -> tuple[Subject, str, str | None, Variant]:
    prepared = evaluation.manifest.inputs.get("prepared")
    name = prepared.name if prepared is not None else None
    return Subject.of(evaluation), evaluation.manifest.facts["split"], name, Variant.of(evaluation)


def _safe(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).lstrip("._-")[:_LONGEST_NAME]
