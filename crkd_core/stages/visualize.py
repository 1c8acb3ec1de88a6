"""Stage ``visualize``: pictures of samples with what one or several models detected in them."""

import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from crkd_core.artifacts.command import Command
from crkd_core.artifacts.workspace import Artifact, Workspace
from crkd_core.artifacts.writer import ArtifactRequest
from crkd_core.data.images import read_image
from crkd_core.datasets.nuscenes.lidar import read_lidar
from crkd_core.datasets.prepared.prepared_data import PreparedData
from crkd_core.datasets.prepared.source import STAGE as PREPARE_STAGE
from crkd_core.datasets.prepared.source import check_dataroot, pin_machine, split_slug
from crkd_core.errors import ArtifactError, DamagedArtifactError, MissingArtifactError, StaleArtifactError, UsageError
from crkd_core.evaluation.finished import evaluated_tokens
from crkd_core.evaluation.identity import STAGE as EVALUATE_STAGE
from crkd_core.evaluation.identity import Subject, evaluations_of, find_evaluation, handle_of, titles_of
from crkd_core.evaluation.io.detections import Detections, read_detections
from crkd_core.models.decode import SampleDetections
from crkd_core.progress import Progress
from crkd_core.stages.missed import MissedObjects, find_missed
from crkd_core.training.recorded_curves import read_curves
from crkd_core.visualization.figure import write_picture
from crkd_core.visualization.page import CurvesEntry, PictureEntry, ScoreEntry, write_page
from crkd_core.visualization.training_curves import write_curves
from crkd_core.visualization.views import CameraView, LabelledBoxes, ModelView, SampleView

STAGE = "visualize"
INDEX_NAME = "index.html"
MAX_MODELS = 4
_USUAL_ORDER = ("teacher", "plain", "control", "crkd")
_RADAR_SWEEPS = 1
_LONGEST_TOKEN = 100


@dataclass(frozen=True)
class VisualizeRequest:
    """What to draw.

    Attributes:
        split: train, val or test, or an official split name.
        samples: number of samples, drawn at random by `seed`; all of the split where there are fewer.
        tokens: draw exactly these samples instead.
        models: evaluated models, one panel each, at most 4; () for all that are evaluated on the split.
        nuscenes: where the data set is now, if it moved since it was prepared.
        score: detections below it are not shown.
        missed: a comparison: draw its models, on the samples of its split with the most objects that only its first
            model finds, and mark these.
        command: as it was given, for the manifest; None where there was none.
    """

    split: str = "val"
    samples: int = 4
    tokens: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    seed: int = 0
    nuscenes: Path | None = None
    score: float = 0.3
    force: bool = False
    missed: str | None = None
    command: Command | None = None


@dataclass(frozen=True)
class VisualizeResult:
    """Finished pictures: `paths` of the PNG files in the order of `tokens`, and the `index` page that shows them."""

    artifact: Artifact
    tokens: tuple[str, ...]
    paths: tuple[Path, ...]
    index: Path


@dataclass(frozen=True)
class _Shown:
    """One evaluated model, and what the pictures call it."""

    evaluation: Artifact
    name: str
    detections: Detections

    @property
    def modalities(self) -> tuple[str, ...]:
        return tuple(self.evaluation.manifest.facts["modalities"])


def visualize(request: VisualizeRequest, workspace: Workspace, progress: Progress) -> VisualizeResult:
    """Draw cameras and bird's-eye views of some samples, with ground truth and one panel for each model.

    A killed call continues with the first missing picture.

    Raises:
        MissingArtifactError: a model, or any model, has no detections on the split.
        UsageError: a sample is not in the split, or an option makes no sense.
        DatasetError: a sensor file is missing or damaged.
    """
    if request.samples < 1 or not 0 <= request.score <= 1:
        raise UsageError(
            f"at least 1 sample and a score between 0 and 1 are expected, found {request.samples} and {request.score}."
        )
    missed = find_missed(workspace, request.missed, f"crkd {STAGE} --missed") if request.missed else None
    if missed is not None:
        request = replace(request, split=missed.split, models=request.models or missed.evaluations)
    evaluations = _choose_evaluations(request, workspace, progress)
    prepared = _open_prepared(request, evaluations, workspace)
    tokens = _choose_tokens(request, prepared, evaluations, missed)
    inputs = {f"evaluation-{artifact.name}": artifact.reference() for artifact in evaluations}
    if missed is not None:
        inputs["comparison"] = missed.comparison.reference()
    output = ArtifactRequest(
        STAGE,
        split_slug(request.split),
        command=_command(request, evaluations, workspace),
        settings={"tokens": tokens, "score": request.score, "models": [artifact.name for artifact in evaluations]},
        inputs={"prepared": prepared.artifact.reference(), **inputs},
        force=request.force,
        replace=True,
    )
    titles = titles_of(evaluations)
    with workspace.write(output) as writer:
        writer.warn(progress)
        if writer.finished is None:
            models = [
                _Shown(artifact, title, read_detections(artifact))
                for artifact, title in zip(evaluations, titles, strict=True)
            ]
            _draw(writer.path, tokens, models, prepared, request.score, missed, progress)
            curves = _draw_curves(writer.path, models, workspace)
            _write_index(writer.path, request.split, tokens, models, prepared, curves)
        artifact = writer.finished or writer.finish({"samples": len(tokens), "models": titles})
    paths = tuple(artifact.file(_file_name(index, token)) for index, token in enumerate(tokens))
    return VisualizeResult(artifact, tuple(tokens), paths, artifact.file(INDEX_NAME))


def _choose_evaluations(request: VisualizeRequest, workspace: Workspace, progress: Progress) -> list[Artifact]:
    """The evaluations to show, in the order of their panels."""
    if request.models:
        if len(request.models) > MAX_MODELS:
            raise UsageError(f"a picture has room for {MAX_MODELS} models, found {len(request.models)}.")
        named = [_named(name, request.split, workspace) for name in request.models]
        return list({evaluation.path: evaluation for evaluation in named}.values())
    latest = {Subject.of(evaluation): evaluation for evaluation in evaluations_of(workspace, request.split)}
    usual = {name: place for place, name in enumerate(_USUAL_ORDER)}
    usable: list[Artifact] = []
    problem: ArtifactError | None = None
    for damaged in workspace.damaged(EVALUATE_STAGE):
        progress.warning(f"left out: {damaged}")
        problem = problem or damaged
    for subject in sorted(latest, key=lambda subject: (usual.get(subject.name, len(usual)), *subject.titles)):
        if _is_of_tables(latest[subject]):
            label = latest[subject].label
            progress.warning(f"left out: {label} was scored from tables alone, without images to draw")
            continue
        try:
            usable.append(_usable(latest[subject], workspace))
        except (StaleArtifactError, DamagedArtifactError) as error:
            progress.warning(f"left out: {error}")
            problem = problem or error
    if not usable:
        raise problem or _missing("MODEL", request.split, workspace)
    usable = _of_same_data(usable, progress)
    if len(usable) > MAX_MODELS:
        left_out = ", ".join(titles_of(usable)[MAX_MODELS:])
        progress.warning(f"a picture has room for {MAX_MODELS} models, so {left_out} is left out; choose with --model.")
    return usable[:MAX_MODELS]


def _is_of_tables(evaluation: Artifact) -> bool:
    return evaluation.manifest.inputs["prepared"].stage != PREPARE_STAGE


def _of_same_data(evaluations: list[Artifact], progress: Progress) -> list[Artifact]:
    """Those of the prepared data that the latest is of."""
    latest = max(evaluations, key=lambda evaluation: evaluation.manifest.created)
    data = {evaluation.name: evaluation.manifest.inputs["prepared"].name for evaluation in evaluations}
    same = [evaluation for evaluation in evaluations if data[evaluation.name] == data[latest.name]]
    others = [evaluation.label for evaluation in evaluations if evaluation not in same]
    if others:
        progress.warning(f"left out: {', '.join(others)}, of other prepared data than {latest.label}")
    return same


def _named(word: str, split: str, workspace: Workspace) -> Artifact:
    found = find_evaluation(workspace, word, split, f"crkd {STAGE}")
    if found is None:
        raise _missing(word, split, workspace)
    return _usable(found, workspace)


def _usable(evaluation: Artifact, workspace: Workspace) -> Artifact:
    make = f"crkd {EVALUATE_STAGE}"
    return workspace.find(EVALUATE_STAGE, evaluation.name, needed_for=f"crkd {STAGE}", make=make)


def _missing(word: str, split: str, workspace: Workspace) -> MissingArtifactError:
    whose = "" if word == "MODEL" else f" of {word}"
    there = ", ".join(titles_of(evaluations_of(workspace, split)))
    make = workspace.command(f"crkd {EVALUATE_STAGE}", model=None if word == "MODEL" else word, split=split)
    return MissingArtifactError(
        f"crkd {STAGE} needs detections{whose} on {split}, and {workspace.root} has none"
        f"{f' (there are those of {there})' if there else ''}; make them with: {make}"
    )


def _open_prepared(request: VisualizeRequest, evaluations: list[Artifact], workspace: Workspace) -> PreparedData:
    references = [artifact.manifest.inputs["prepared"] for artifact in evaluations]
    for artifact, reference in zip(evaluations, references, strict=True):
        if _is_of_tables(artifact):
            raise UsageError(
                f"{artifact.label} was scored from the tables alone, and pictures need images; prepare the data set "
                f"(crkd prepare --nuscenes DIR) and run again: {artifact.manifest.command}"
            )
        if reference.name != references[0].name:
            raise ArtifactError(
                f"{evaluations[0].label} and {artifact.label} are of different data ({references[0].name} and "
                f"{reference.name}) and cannot share a picture; choose with --model."
            )
    make = "crkd prepare --nuscenes DIR"
    artifact = workspace.find(PREPARE_STAGE, references[0].name, needed_for=f"crkd {STAGE}", make=make)
    prepared = PreparedData(artifact, request.nuscenes)
    check_dataroot(prepared)
    return prepared


def _choose_tokens(
    request: VisualizeRequest, prepared: PreparedData, evaluations: list[Artifact], missed: MissedObjects | None
) -> list[str]:
    evaluated = [set(evaluated_tokens(artifact, prepared)) for artifact in evaluations]
    tokens = [token for token in prepared.tokens(request.split) if all(token in tokens for tokens in evaluated)]
    if not tokens:
        raise UsageError(f"{evaluations[0].label} and the others have no sample in common; choose with --model.")
    if request.tokens:
        strangers = sorted(set(request.tokens) - set(tokens))
        if strangers:
            split = prepared.official_split(request.split)
            raise UsageError(f"{strangers[0]!r} is no sample of {split} in {prepared.artifact.label}; check --token.")
        return list(dict.fromkeys(request.tokens))
    if missed is not None:
        return list(missed.annotations)[: request.samples]
    count = min(request.samples, len(tokens))
    chosen = np.random.default_rng(request.seed).choice(len(tokens), size=count, replace=False)
    return [tokens[index] for index in sorted(chosen.tolist())]


def _draw(
    folder: Path,
    tokens: list[str],
    models: list[_Shown],
    prepared: PreparedData,
    score: float,
    missed: MissedObjects | None,
    progress: Progress,
) -> None:
    names = [_file_name(index, token) for index, token in enumerate(tokens)]
    done = [(folder / name).exists() for name in names]
    with progress.task(STAGE, total=len(tokens), unit="pictures", done=sum(done)) as task:
        for token, name, is_done in zip(tokens, names, done, strict=True):
            if not is_done:
                scene = load_scene(token, models, prepared, score)
                if missed is not None:
                    scene = replace(scene, marked=missed.places(token, prepared), marked_title=missed.title)
                write_picture(folder / name, scene)
                task.advance()


def load_scene(token: str, models: list[_Shown], prepared: PreparedData, score: float) -> SampleView:
    """One sample with its sensor data, ground truth and the detections of `models` above `score`."""
    scene = prepared.scene_of(token)
    values, _ = prepared.radar(token, _RADAR_SWEEPS)
    sweeps = prepared.lidar_sweeps(token)
    lidar = np.zeros((0, 4), np.float32)
    if sweeps.paths:
        lidar = read_lidar(prepared.dataroot / sweeps.paths[0], sweeps.columns)[:, :4]
    extent_m = max(artifact.evaluation.manifest.facts["extent_m"] for artifact in models)
    return SampleView(
        token=token,
        scene=scene.name,
        condition=", ".join(text for text in (scene.description, scene.location) if text),
        extent_m=extent_m,
        gt=_gt(token, prepared, extent_m),
        cameras=_cameras(token, prepared),
        lidar=lidar,
        radar=values[:, [0, 1, 4, 5]],
        models=tuple(
            ModelView(model.name, _above(model.detections.sample(token), score), model.modalities) for model in models
        ),
    )


def _gt(token: str, prepared: PreparedData, extent_m: float) -> LabelledBoxes:
    annotations = prepared.annotations(token)
    inside = (annotations.boxes.centre[:, :2].abs() <= extent_m).all(dim=1)
    kept = (annotations.has_points & inside).numpy()
    return LabelledBoxes(annotations.boxes, annotations.labels.numpy()).select(kept)


def _cameras(token: str, prepared: PreparedData) -> tuple[CameraView, ...]:
    cameras = prepared.cameras(token)
    return tuple(
        CameraView(
            channel=channel,
            image=np.asarray(read_image(prepared.dataroot / path, tuple(cameras.size_px[index].tolist()))),
            intrinsics=cameras.intrinsics[index],
            lidar_from_camera=cameras.lidar_from_camera[index],
        )
        for index, (channel, path) in enumerate(zip(cameras.channels, cameras.paths, strict=True))
    )


def _above(found: SampleDetections, score: float) -> LabelledBoxes:
    boxes = LabelledBoxes(found.boxes, found.labels.numpy(), found.scores.numpy())
    return boxes.select(found.scores.numpy() >= score)


def _draw_curves(folder: Path, models: list[_Shown], workspace: Workspace) -> list[CurvesEntry]:
    """How each shown model was trained, where its run is still there and recorded it; a results file has none."""
    drawn = []
    for model in models:
        reference = model.evaluation.manifest.inputs.get("model")
        if reference is None:
            continue
        run = next((found for found in workspace.artifacts(reference.stage) if found.reference() == reference), None)
        curves = read_curves(run) if run is not None else None
        if curves is not None:
            entry = CurvesEntry(f"training-{model.name.replace('/', '-')}.png", model.name)
            if not (folder / entry.file).exists():
                write_curves(folder / entry.file, f"{reference.stage} {reference.name}", curves)
            drawn.append(entry)
    return drawn


def _write_index(
    folder: Path,
    split: str,
    tokens: list[str],
    models: list[_Shown],
    prepared: PreparedData,
    curves: list[CurvesEntry],
) -> None:
    pictures = []
    for index, token in enumerate(tokens):
        scene = prepared.scene_of(token)
        pictures.append(PictureEntry(_file_name(index, token), token, scene.name, scene.description))
    scores = []
    for model in models:
        facts = model.evaluation.manifest.facts
        scores.append(ScoreEntry(model.name, " + ".join(model.modalities), facts.get("mean_ap"), facts.get("nds")))
    title = f"{prepared.official_split(split)} of {prepared.version}"
    write_page(folder / INDEX_NAME, title, pictures, scores, curves)


def _file_name(index: int, token: str) -> str:
    # Ordinary tokens stay as they are; others may have slashes, or be longer than a file name.
    return f"{index:03d}-{re.sub(r'[^A-Za-z0-9._-]', '-', token)[:_LONGEST_TOKEN]}.png"


def _command(request: VisualizeRequest, evaluations: list[Artifact], workspace: Workspace) -> Command:
    command = (request.command or Command(STAGE)).setting("--split", request.split)
    if request.missed:
        command = command.setting("--missed", request.missed).setting("--samples", request.samples)
    elif request.tokens:
        command = command.setting("--token", *request.tokens)
    else:
        command = command.setting("--samples", request.samples).setting("--seed", request.seed)
    command = command.setting("--model", *(handle_of(evaluation, workspace) for evaluation in evaluations))
    return pin_machine(command.setting("--score", f"{request.score:g}"), request.nuscenes, "auto")
