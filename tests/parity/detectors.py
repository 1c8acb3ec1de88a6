"""Whole detectors and the whole distiller, from raw inputs to boxes and losses."""

import re
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from crkd_core.config.data import DataConfig
from crkd_core.config.distill import CSRDConfig, DistillConfig, MSFDConfig, RelDConfig, RespDConfig
from crkd_core.config.models import DetectorConfig
from crkd_core.distillation.losses import build_targets
from crkd_core.distillation.objective import DistillationObjective, build_objective
from crkd_core.distillation.probability import clipped_sigmoid
from crkd_core.distillation.respd import box_term, heatmap_term
from crkd_core.distillation.targets import TeacherTargets
from crkd_core.geometry.sensors import SensorInputs
from crkd_core.models.decode import decode_detections
from crkd_core.models.detection_loss import detection_loss
from crkd_core.models.detector import Detector, build_detector
from crkd_core.models.head_targets import build_head_targets
from crkd_core.models.outputs import BEVFeatures, DetectorOutput, HeadOutput
from crkd_core.models.view_transform import ViewTransform
from crkd_core.weights.naming import our_adapter_name, our_name
from crkd_core.weights.published import import_detector, split_distiller
from tests.parity.cases import GoldenCase
from tests.parity.comparison import GRADIENT_TOLERANCE, Comparison
from tests.parity.head import check_detections, head_arrays
from tests.parity.kinks import Kinks
from tests.parity.networks import record_outputs
from tests.parity.parts import check_outputs, is_bias_before_norm
from tests.parity.released import boxes_from_released, data_config, detector_config, rig_from_case
from tests.parity.rounding import published_rounding
from tests.parity.views import unclear_cells
from tests.support.described import NUSCENES, TASKS

_STUDENT = "_student"
# A gradient is held to three times what the last bit can do to it, but to no more than this.
_DEEP_TOLERANCE, _SAFETY = 5e-2, 3.0


def inputs_from_case(case: GoldenCase) -> SensorInputs:
    """Recorded sensor data and calibration."""
    with_camera = "in/img" in case
    return SensorInputs(
        images=case["in/img"] if with_camera else None,
        rig=rig_from_case(case) if with_camera else None,
        lidar=case.series("in/points") or None,
        radar=case.series("in/radar") or None,
        bev_augmentation=case["in/lidar_aug_matrix"],
    )


@dataclass(frozen=True)
class Loaded:
    """A detector with recorded weights."""

    config: DetectorConfig
    data: DataConfig
    detector: Detector


def load_detector(case: GoldenCase, state: dict[str, Tensor], suffix: str = "") -> Loaded:
    """Build a recorded detector and load its weights through the import of published weights."""
    model = case.config["model"]
    config = detector_config(model, suffix)
    data = data_config(model, case.config["image"], suffix)
    detector = build_detector(config, data, TASKS)
    detector.load_state_dict(import_detector(state, config, data, NUSCENES))
    return Loaded(config, data, detector)


def run_detector(comparison: Comparison) -> None:
    """A whole teacher or student in evaluation mode: maps between its parts, head maps, boxes."""
    case = comparison.case
    comparison.rule("truncate")
    loaded = load_detector(case, case.under("param/"))
    detector = loaded.detector.eval()
    inputs = inputs_from_case(case)
    neck = record_outputs([detector.camera.neck]) if detector.camera is not None else []
    decoded = record_outputs([detector.decoder])
    clear = _take_recorded_where_ambiguous(comparison, detector)
    with torch.no_grad(), published_rounding(comparison, [_view(detector)], inputs):
        out = detector(inputs)
    check_outputs(comparison, {"camera_neck0": neck[0]} if neck else {})
    if "out/camera_bev" in case:
        comparison.check("out/camera_bev", out.features.camera, where=clear)
    maps = {"other_bev": out.features.points, "fused": out.features.fused, "decoder": decoded[0]}
    check_outputs(comparison, {name: value for name, value in maps.items() if value is not None})
    check_outputs(comparison, head_arrays(out.head), "out/head/")
    decoded_samples = decode_detections(out.head, loaded.data.grid.build(), loaded.config.head.nms, TASKS)
    for index, detections in enumerate(decoded_samples):
        check_detections(comparison, f"out/img{index}/", detections)


def _view(detector: Detector) -> ViewTransform | None:
    return None if detector.camera is None else detector.camera.view_transform


def _take_recorded_where_ambiguous(comparison: Comparison, detector: Detector) -> Tensor | None:
    """Make the camera branch return the recorded map in cells that hang on a coordinate's last bit.

    Everything behind it can then be compared in full.
    """
    case = comparison.case
    ambiguous = next((case[key] for key in case.arrays if "ambiguous" in key), None)
    if ambiguous is None or not ambiguous.any() or detector.camera is None:
        return None
    comparison.rule("ambiguous")
    recorded = case["out/camera_bev"]
    unclear = unclear_cells(ambiguous, recorded.shape[2:] != ambiguous.shape[1:]).expand(recorded.shape)
    detector.camera.register_forward_hook(lambda module, args, output: torch.where(unclear, recorded, output))
    return ~unclear


def run_distiller(comparison: Comparison) -> None:
    """One training step of the distiller in all its variants, and the student in evaluation mode afterwards."""
    comparison.rule("truncate")
    comparison.rule("released-masks")
    step = _DistillationStep(comparison)
    transforms = [_view(step.student.detector), _view(step.teacher.detector)]
    with published_rounding(comparison, transforms, step.inputs):
        _run_variants(step)


def _run_variants(step: "_DistillationStep") -> None:
    variants = sorted({key.split("/")[1] for key in step.case.keys("out/teacher_")})
    # The recorded gradients, maps and statistics belong to the variant that the method means.
    main = "teacher_eval_single"
    step.run_main(main)
    for variant in variants:
        if variant != main:
            step.run_variant(variant)
    step.run_evaluation()


class _DistillationStep:
    """Student, teacher, objective and batch of one recorded step."""

    def __init__(self, comparison: Comparison) -> None:
        self.comparison = comparison
        self.case = case = comparison.case
        parts = split_distiller(case.under("param/"))
        self.student = load_detector(case, parts.student, _STUDENT)
        self.teacher = load_detector(case, parts.teacher)
        self.grid = self.student.data.grid.build()
        self.config = _distill_config(case.config["model"])
        self.objective: DistillationObjective = build_objective(
            self.config, self.grid, self.student.detector.fused_channels, self.student.config, self.teacher.config
        )
        self.objective.load_state_dict(parts.adapters)
        self.inputs = inputs_from_case(case)
        self.boxes = [boxes_from_released(tensor) for tensor in case.series("in/gt_boxes")]
        self.labels = case.series("in/gt_labels")
        self.student_state = {k: v.clone() for k, v in self.student.detector.state_dict().items()}

    def run_main(self, variant: str) -> None:
        """The variant with gradients and maps in between."""
        decoded = record_outputs([self.student.detector.decoder, self.teacher.detector.decoder])
        self.teacher.detector.eval().requires_grad_(False)
        taught = self._teach(self.inputs)
        kinks = Kinks()
        with kinks.watched():
            student = self.student.detector.train()(self.inputs)
        terms = self._terms(student, self._targets(taught), double=False)
        self._check_terms(variant, terms)
        loss = torch.stack(list(terms.values())).sum()
        self.spread = kinks.spread(loss, {name: self._parameter(name) for name in self._recorded_gradients()})
        loss.backward()
        self._check_maps(student.features, taught.features, decoded[1], decoded[0])
        self._check_gradients()
        self._check_statistics()
        self.output = student

    def run_variant(self, variant: str) -> None:
        """Another variant: of the same student's output, with the targets of another teacher or a second sigmoid."""
        parts = re.fullmatch(r"teacher_(eval|train)_(single|double)(_shifted_points)?", variant)
        if parts is None:
            return
        mode, sigmoids, shifted = parts.groups()
        self.teacher.detector.train(mode == "train")
        if mode == "train":
            self.comparison.rule("teacher-train")
        if sigmoids == "double":
            self.comparison.rule("double-sigmoid")
        if shifted:
            self.comparison.rule("shifted-points")
        taught = self._teach(self.inputs, shifted=bool(shifted))
        with torch.no_grad():
            self._check_terms(variant, self._terms(self.output, self._targets(taught), double=sigmoids == "double"))

    def run_evaluation(self) -> None:
        """The student as it was before the step, in evaluation mode."""
        detector = self.student.detector
        detector.load_state_dict(self.student_state)
        decoded = record_outputs([detector.decoder])
        with torch.no_grad():
            out = detector.eval()(self.inputs)
        maps = {"decoder": decoded[-1], **head_arrays(out.head)}
        self._check_sampled(maps, "out/eval/sub4/")
        decoded_samples = decode_detections(out.head, self.grid, self.student.config.head.nms, TASKS)
        for index, detections in enumerate(decoded_samples):
            check_detections(self.comparison, f"out/eval/img{index}/", detections)

    @torch.no_grad()
    def _teach(self, inputs: SensorInputs, shifted: bool = False) -> DetectorOutput:
        teacher = self.teacher.detector
        if not shifted:
            return teacher(inputs)
        camera = teacher.camera(inputs.images, inputs.rig, inputs.bev_augmentation, inputs.lidar)
        points = teacher.lidar(_shifted(inputs))
        gated_camera, gated_points, fused = teacher.fuser(camera, points)
        features = BEVFeatures(camera, points, gated_camera, gated_points, fused, None)
        return DetectorOutput(features, teacher.head(teacher.decoder(fused)))

    def _targets(self, taught: DetectorOutput) -> TeacherTargets:
        return build_targets(taught, self.boxes, self.grid, self.config)

    def _terms(self, student: DetectorOutput, targets: TeacherTargets, double: bool) -> dict[str, Tensor]:
        """Every term by its recorded name."""
        head_config = self.student.config.head
        ground_truth = build_head_targets(self.boxes, self.labels, self.grid, head_config, TASKS)
        detection = detection_loss(student.head, ground_truth, head_config)
        kd = self.objective(student, targets)
        terms = {
            "fused_mask_scale_feat_kd": kd["msfd_fused"],
            "fused_affinity_kd": kd["reld"],
            "cam_mask_scale_feat_kd": kd["msfd_camera"],
            "lr_kd": kd["csrd"],
        }
        seen = _sigmoided(student.head) if double else student.head
        weights = self.config.respd.task_weights
        for index, (student_task, teacher_task) in enumerate(
            zip(seen.tasks, targets.parts["respd"].tasks, strict=True)
        ):
            classes, weight = TASKS[index], self.config.respd.weight * weights[index]
            terms[f"heatmap/task{index}"] = detection[f"heatmap/{classes[0]}"]
            terms[f"bbox/task{index}"] = detection[f"box/{classes[0]}"]
            terms[f"heatmap/task{index}/kd"] = weight * heatmap_term(student_task, teacher_task, self.config.respd)
            terms[f"bbox/task{index}/kd"] = weight * box_term(student_task, teacher_task, self.config.respd)
        return terms

    def _check_terms(self, variant: str, terms: dict[str, Tensor]) -> None:
        prefix = f"out/{variant}/"
        check_outputs(self.comparison, terms, f"{prefix}loss/object/")
        if f"{prefix}TOTAL" in self.case:
            self.comparison.check(f"{prefix}TOTAL", torch.stack(list(terms.values())).sum())

    def _check_maps(self, student: BEVFeatures, teacher: BEVFeatures, s_decoder: Tensor, t_decoder: Tensor) -> None:
        maps = {
            "s_cam": student.camera,
            "s_radar": student.points,
            "s_activation": student.radar_activation,
            "s_fused": student.fused,
            "s_gated_cam": student.gated_camera,
            "s_decoder": s_decoder,
            "t_lidar": teacher.points,
            "t_fused": teacher.fused,
            "t_gated_cam": teacher.gated_camera,
            "t_decoder": t_decoder,
        }
        self._check_sampled({name: value for name, value in maps.items() if value is not None}, "out/sub4/")

    def _check_sampled(self, maps: dict[str, Tensor], prefix: str) -> None:
        """Maps of which only every so many-th channel and cell was recorded."""
        for name, value in maps.items():
            key = f"{prefix}{name}"
            if key in self.case:
                c, x, y = (-(-n // m) for n, m in zip(value.shape[1:], self.case[key].shape[1:]))
                self.comparison.check(key, value[:, ::c, ::x, ::y])

    def _recorded_gradients(self) -> list[str]:
        """Published names of the parameters whose gradients, or norms of them, were recorded."""
        names = self.case.arrays["grad/norm_names"].tolist() if "grad/norm_names" in self.case else []
        return list(
            dict.fromkeys([*names, *(key.removeprefix("grad/param/") for key in self.case.keys("grad/param/"))])
        )

    def _check_gradients(self) -> None:
        if "grad/norm_names" in self.case:
            self.comparison.require("grad/norm_names", True, "")
            self._check_norms(self.case.arrays["grad/norm_names"].tolist())
        for key in self.case.keys("grad/param/"):
            name = key.removeprefix("grad/param/")
            scale = self._scale(name)
            tolerance = self._tolerance(name) if scale is None else None
            self.comparison.check(key, self._parameter(name).grad, scale=scale, tolerance=tolerance)

    def _tolerance(self, name: str) -> float:
        """For the gradient of a parameter: what signs within rounding of zero can do to it, within limits."""
        tolerance = min(max(_SAFETY * self.spread[name], GRADIENT_TOLERANCE), _DEEP_TOLERANCE)
        if tolerance > GRADIENT_TOLERANCE:
            self.comparison.rule("deep-gradients")
        return tolerance

    def _check_norms(self, names: list[str]) -> None:
        """The norm of every parameter's gradient, each relative to itself."""
        worst = ("", 0.0, False)
        for name, recorded in zip(names, self.case["grad/norm_values"].tolist(), strict=True):
            scale = self._scale(name)
            off = abs(float(self._parameter(name).grad.norm()) - recorded) / max(recorded, scale or 0.0, 1e-12)
            wrong = off > (self._tolerance(name) if scale is None else GRADIENT_TOLERANCE)
            worst = max(worst, (name, off, wrong), key=lambda entry: (entry[2], entry[1]))
        name, off, wrong = worst
        self.comparison.require("grad/norm_values", not wrong, f"the norm of {name} differs by {off:.3g}", off)

    def _scale(self, published: str) -> float | None:
        """For a bias in front of batch norm, the norm of its layer's weights' gradient; None for others."""
        if not self._is_bias_before_norm(published):
            return None
        self.comparison.rule("zero-gradient")
        return float(self._parameter(f"{published.removesuffix('bias')}weight").grad.norm())

    def _parameter(self, published: str) -> Tensor:
        adapter = our_adapter_name(published)
        if adapter is not None:
            return self.objective.get_parameter(adapter)
        return self.student.detector.get_parameter(_student_name(published))

    def _is_bias_before_norm(self, published: str) -> bool:
        return our_adapter_name(published) is None and is_bias_before_norm(
            self.student.detector, _student_name(published)
        )

    def _check_statistics(self) -> None:
        state = self.student.detector.state_dict()
        for key in self.case.keys("out_state/"):
            self.comparison.check(key, state[_student_name(key.removeprefix("out_state/"))])


def _student_name(published: str) -> str:
    """Our name of a student's tensor in a distiller."""
    module, _, rest = published.partition(".")
    name = our_name(f"{module.removesuffix(_STUDENT)}.{rest}")
    if name is None or not module.endswith(_STUDENT):
        raise KeyError(f"{published} is no tensor of a distiller's student")
    return name


def _shifted(inputs: SensorInputs) -> list[Tensor]:
    """The LiDAR points without the augmentation's translation."""
    shifted = [points.clone() for points in inputs.lidar or []]
    for points, matrix in zip(shifted, inputs.bev_augmentation, strict=True):
        points[:, :3] -= matrix[:3, 3]
    return shifted


def _sigmoided(head: HeadOutput) -> HeadOutput:
    return HeadOutput(tuple(replace(task, heatmap_logits=clipped_sigmoid(task.heatmap_logits)) for task in head.tasks))


def _distill_config(model: dict) -> DistillConfig:
    """Losses of a recorded distiller."""
    affinity = model["fused_affinity_loss"]
    task_weights = model[f"heads{_STUDENT}"]["object"]["loss_soft_task_weights"]
    return DistillConfig(
        csrd=CSRDConfig(weight=model["lr_kd_loss"]["loss_weight"]),
        msfd=MSFDConfig(
            mask="released",
            camera_weight=model["cam_feat_loss_scale_kd"] * model["cam_loss"]["loss_weight"],
            fused_weight=model["fused_feat_loss_scale_kd"] * model["fused_loss"]["loss_weight"],
        ),
        reld=RelDConfig(
            weight=model["fused_affinity_loss_scale_kd"] * affinity["loss_weight"],
            scales=tuple(affinity["downsample_size"]),
            adapter=affinity["use_adapt"],
        ),
        respd=RespDConfig(task_weights=tuple(float(weight) for weight in task_weights)),
    )
