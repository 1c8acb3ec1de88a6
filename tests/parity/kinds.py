"""Which runner takes which kind of case.

A case belongs to the kind whose name its own contains: the first and longest one, where several do. Anything may
stand before and after it (``lss_transform_2``, ``holdout_kd_lr``). The name that the recording gives itself counts if
the file's does not say.
"""

import re
from collections.abc import Callable

from tests.parity import (
    augmenting,
    detectors,
    distill,
    head,
    loading,
    networks,
    outcomes,
    pasting,
    points,
    suppression,
    views,
)
from tests.parity.cases import GoldenCase
from tests.parity.comparison import Comparison

Runner = Callable[[Comparison], None]

KINDS: dict[str, Runner] = {
    "gatedfuser": networks.run_fuser,
    "convfuser": networks.run_fuser,
    "decoder": networks.run_decoder,
    "neck": networks.run_neck,
    "resnet50": networks.run_backbone,
    "swin": networks.run_backbone,
    "lss_transform": views.run_view_transform,
    "depth_lss_transform": views.run_view_transform,
    "radar_voxelize": points.run_voxelize,
    "radar_feature_net": points.run_feature_net,
    "radar_encoder": points.run_radar_encoder,
    "sparse_encoder": points.run_sparse_encoder,
    "head_forward": head.run_head_forward,
    "head_targets": head.run_targets,
    "head_loss": head.run_loss,
    "head_loss_soft": head.run_soft_loss,
    "head_get_bboxes": head.run_get_boxes,
    "gaussian": head.run_gaussian,
    "bev_aug": augmenting.run_bev_augmentation,
    "image_aug": augmenting.run_image_augmentation,
    "dataset_info": loading.run_dataset_info,
    "lidar_loading": loading.run_lidar_loading,
    "radar_loading": loading.run_radar_loading,
    "object_paste": pasting.run_object_paste,
    "results_to_nuscenes": outcomes.run_results,
    "lr_schedule": outcomes.run_schedule,
    "swin_checkpoint_convert": outcomes.run_checkpoint_conversion,
    "e2e": detectors.run_detector,
    "e2e_distill": detectors.run_distiller,
    "rotated_nms": suppression.run_rotated_nms,
    "kd_lr": distill.run_csrd,
    "kd_affinity": distill.run_reld,
    "kd_scale_mask": distill.run_scale_mask,
    "kd_gt_masks": distill.run_masks,
    "kd_mask_feat_loss": distill.run_msfd,
}


# Kinds that are put together from the others; and those of which gradients are recorded, too.
WHOLE_DETECTORS = frozenset({"e2e", "e2e_distill"})
WITH_GRADIENTS = frozenset(
    {
        "gatedfuser",
        "decoder",
        "neck",
        "lss_transform",
        "radar_feature_net",
        "sparse_encoder",
        "head_loss",
        "head_loss_soft",
        "kd_lr",
        "kd_affinity",
        "kd_mask_feat_loss",
    }
)


def find_kind(case: GoldenCase) -> str | None:
    """The kind of a case; None for an unknown one."""
    for name in (case.name, case.recorded_as):
        kinds = [
            (match.start(), -len(kind), kind)
            for kind in KINDS
            for match in re.finditer(rf"(?<![a-zA-Z0-9]){kind}(?![a-zA-Z0-9])", name)
        ]
        if kinds:
            return min(kinds)[2]
    return None


def find_runner(case: GoldenCase) -> Runner | None:
    """The runner of a case; None for one of an unknown kind."""
    kind = find_kind(case)
    return None if kind is None else KINDS[kind]
