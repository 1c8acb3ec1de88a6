"""Rows of the comparisons of ``crkd ablate``: the paper's ladder and design comparisons, with its published cells.

Rows of different comparisons may show one variant, which is then trained once.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from crkd_core.config.distill import LOSS_NAMES
from crkd_core.config.models import ResNetConfig
from crkd_core.config.schema import Config
from crkd_core.stages.ablate.variants import CONTROL, CONV, FLAT, GATED, Variant, distilled, respd_and

METRICS = ("mAP", "NDS", "mATE", "mASE", "mAOE", "mAVE", "mAAE")
BACKBONES = ("Swin-T", "ResNet-50")
"""Image backbones that the paper published results of (nuScenes val, single frame)."""


@dataclass(frozen=True)
class Row:
    """One line of a comparison.

    Attributes:
        published: by backbone, the paper's cells in the order of :data:`METRICS`: mAP and NDS in percent, then errors;
            shorter where it published fewer.
    """

    title: str
    variant: Variant
    published: dict[str, tuple[float, ...]] = field(default_factory=dict)

    def paper(self, backbone: str) -> dict[str, float]:
        """The published cells by metric, mAP and NDS from 0 to 1."""
        cells = dict(zip(METRICS, self.published.get(backbone, ()), strict=False))
        return {metric: round(value / 100, 3) if metric in ("mAP", "NDS") else value for metric, value in cells.items()}


def published_backbone(config: Config) -> str:
    """Which of the paper's results stand beside a configuration's: those of its backbone, else the complete ones."""
    return "ResNet-50" if config.student.camera.backbone == ResNetConfig() else "Swin-T"


_CONTROL_ROW = Row("control, equal epochs", CONTROL)
_UNDISTILLED = (
    Row("conv fuser", CONV, {"Swin-T": (43.2, 54.1, 0.489, 0.269, 0.512, 0.313, 0.171), "ResNet-50": (41.8, 52.9)}),
    Row("gated fuser", GATED, {"Swin-T": (44.9, 55.9, 0.464, 0.267, 0.458, 0.304, 0.165), "ResNet-50": (41.7, 53.5)}),
    _CONTROL_ROW,
)
_PAPER_STEPS: dict[str, tuple[str, dict[str, tuple[float, ...]]]] = {
    "respd": ("+ RespD", {"Swin-T": (45.7, 56.7, 0.448, 0.262, 0.409, 0.330, 0.166)}),
    "csrd": ("+ CSRD", {"Swin-T": (46.0, 57.0, 0.445, 0.261, 0.407, 0.326, 0.163)}),
    "msfd": ("+ MSFD", {"Swin-T": (46.2, 57.2, 0.439, 0.260, 0.394, 0.332, 0.166)}),
    "reld": (
        "+ RelD (CRKD)",
        {"Swin-T": (46.7, 57.3, 0.446, 0.263, 0.408, 0.331, 0.162), "ResNet-50": (43.2, 54.9)},
    ),
}
"""The paper's order of its losses, with what it published of the student that has all up to this one."""


def ladder_rows(losses: Sequence[str] = LOSS_NAMES) -> tuple[Row, ...]:
    """One loss more in every row: those of the paper in its order, then what others there are, in theirs."""
    steps = {**_PAPER_STEPS, **{loss: (f"+ {loss}", {}) for loss in losses if loss not in _PAPER_STEPS}}
    names = list(steps)
    return _UNDISTILLED + tuple(
        Row(title, distilled(names[:number]), published)
        for number, (title, published) in enumerate(steps.values(), start=1)
    )


_CRKD_ROW = ladder_rows(())[-1]

COMPARISONS: dict[str, tuple[Row, ...]] = {
    "ladder": ladder_rows(),
    "summary": (*_UNDISTILLED, _CRKD_ROW),
    "csrd-target": (
        _CONTROL_ROW,
        Row(
            "CSRD from LiDAR feature",
            respd_and("csrd", "feature", "distill.csrd.target=lidar_feature"),
            {"Swin-T": (44.9, 56.3)},
        ),
        Row("CSRD from heatmap", respd_and("csrd", "heatmap", "distill.csrd.target=heatmap"), {"Swin-T": (46.0, 57.0)}),
    ),
    "mask": (
        _CONTROL_ROW,
        Row("MSFD, plain mask", respd_and("msfd", "plain", "distill.msfd.mask=plain"), {"Swin-T": (46.0, 56.7)}),
        Row("MSFD, scaled mask", respd_and("msfd", "scaled", "distill.msfd.mask=released"), {"Swin-T": (46.2, 56.9)}),
        Row("MSFD, rotated mask", respd_and("msfd", "rotated", "distill.msfd.mask=rotated")),
    ),
    "adapter": (
        _CONTROL_ROW,
        Row("RelD without adapter", respd_and("reld", "bare", "distill.reld.adapter=false"), {"Swin-T": (45.9, 56.9)}),
        Row("RelD with adapter", respd_and("reld", "adapted", "distill.reld.adapter=true"), {"Swin-T": (46.2, 57.0)}),
    ),
    "weights": (
        _CONTROL_ROW,
        Row(
            "RespD, uniform weights",
            Variant("respd-uniform", ("respd",), GATED, task_weights="uniform"),
            {"Swin-T": (45.3, 56.7)},
        ),
        Row(
            "RespD, dynamic weights",
            Variant("respd-dynamic", ("respd",), GATED, task_weights="described"),
            {"Swin-T": (45.7, 56.7)},
        ),
    ),
    "affinity": (
        _CONTROL_ROW,
        Row("RelD, dot product", respd_and("reld", "dot", "distill.reld.affinity=dot")),
        Row("RelD, cosine", respd_and("reld", "cosine", "distill.reld.affinity=cosine")),
    ),
    "radar-elevation": (Row("4D radar", GATED), Row("4D radar without elevation", FLAT)),
    "fuser-widths": (
        Row(
            "64 + 64 -> 64",
            Variant("widths-64", overrides=GATED.overrides, widths=(64, 64, 64)),
            {"Swin-T": (44.2, 54.3)},
        ),
        Row(
            "128 + 128 -> 256",
            Variant("widths-128", overrides=GATED.overrides, widths=(128, 128, 256)),
            {"Swin-T": (44.4, 54.7)},
        ),
        Row("80 + 256 -> 256", GATED, {"Swin-T": (44.9, 55.9)}),
    ),
}
"""Rows by comparison. Each design comparison adds its one loss to RespD, as the paper's do."""


@dataclass(frozen=True)
class ShownVariant:
    """A row of a comparison, with the variant that is trained for it: :func:`canonical` of its own."""

    comparison: str
    row: Row
    variant: Variant


def canonical(variant: Variant, config: Config) -> Variant:
    """The first variant of all comparisons that trains the same student as this one, so that it is trained once."""
    resolved = variant.resolve(config, seed=0)
    for rows in COMPARISONS.values():
        for row in rows:
            is_alike = (row.variant.losses, row.variant.start) == (variant.losses, variant.start)
            if is_alike and row.variant.resolve(config, seed=0) == resolved:
                return row.variant
    return variant
