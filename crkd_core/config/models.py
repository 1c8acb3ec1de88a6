"""Sections ``teacher`` and ``student``: one detector each, of any modality set."""

from math import prod
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from crkd_core.config.description_files import nuscenes
from crkd_core.config.numbers import (
    Channels,
    ChannelsOfLayers,
    Depth,
    Finite,
    Fraction,
    NonNegative,
    NonNegativeRange,
    Positive,
    PositiveInt,
    Probability,
    Range,
    Share,
    Stride,
)
from crkd_core.config.sections import Name, OmittedAtDefault, Section

Modality = Literal["camera", "lidar", "radar"]
_MOST_DEPTH_BINS = 1000


def _number_or_list(value: Any) -> str:
    return "list" if isinstance(value, list | tuple) else "number"


# One number for all stages, or one for each.
ChannelsOfStages = Annotated[
    Annotated[Channels, Tag("number")] | Annotated[ChannelsOfLayers, Tag("list")], Discriminator(_number_or_list)
]
BlocksOfStages = Annotated[
    Annotated[Depth, Tag("number")] | Annotated[tuple[Depth, ...], Field(min_length=1, max_length=100), Tag("list")],
    Discriminator(_number_or_list),
]


class ResNetConfig(Section):
    """Residual image backbone; the defaults are ResNet-50."""

    kind: Literal["resnet"] = Field("resnet", description="kind of backbone")
    block: Literal["basic", "bottleneck"] = Field("bottleneck", description="residual block")
    depths: tuple[Depth, Depth, Depth, Depth] = Field((3, 4, 6, 3), description="blocks of each stage")
    width: Channels = Field(
        64, le=1024, description="channels of the stem; stage i has width * 2^i (x 4 for bottlenecks)"
    )


class SwinConfig(Section):
    """Swin Transformer image backbone; the defaults are Swin-T. Its stages at 1/8, 1/16 and 1/32 go to the neck."""

    kind: Literal["swin"] = Field("swin", description="kind of backbone")
    embed_dims: Channels = Field(
        96, le=1024, description="channels of the first stage; each further stage has twice as many"
    )
    depths: tuple[Depth, Depth, Depth, Depth] = Field(
        (2, 2, 6, 2), description="blocks of each stage; every second one shifts its windows"
    )
    heads: tuple[Channels, Channels, Channels, Channels] = Field(
        (3, 6, 12, 24), description="attention heads of each stage"
    )
    window: PositiveInt = Field(7, ge=2, le=64, description="side of an attention window (tokens)")
    drop_path: Fraction = Field(
        0.2,
        lt=1,
        description="stochastic depth of the last block while training; it grows linearly from 0 at the first",
    )

    @model_validator(mode="after")
    def _whole_heads(self) -> "SwinConfig":
        for stage, heads in enumerate(self.heads):
            if (self.embed_dims * 2**stage) % heads:
                raise ValueError(
                    f"the {self.embed_dims * 2**stage} channels of stage {stage} must be a multiple of its {heads} "
                    "heads; change embed_dims or heads"
                )
        return self


class TimmConfig(Section):
    """Any image backbone of the timm library that has maps at 1/8, 1/16 and 1/32; needs `pip install crkd[timm]`."""

    kind: Literal["timm"] = Field("timm", description="kind of backbone")
    name: Name = Field(description="name of the timm model, such as convnext_tiny; it starts from random weights")


def backbone_kind(value: Any) -> Any:
    """The kind of a backbone's section, or of its plain values."""
    return value.get("kind", "resnet") if isinstance(value, dict) else getattr(value, "kind", None)


BackboneConfig = Annotated[
    Annotated[ResNetConfig, Tag("resnet")] | Annotated[SwinConfig, Tag("swin")] | Annotated[TimmConfig, Tag("timm")],
    Discriminator(backbone_kind),
]


class CameraNeckConfig(Section):
    """Feature pyramid that merges the backbone's stages at 1/8 of the input size."""

    kind: Literal["second_fpn", "lss_fpn"] = Field(
        "second_fpn", description="SECOND-style (all to 1/8, concatenated) or LSS-style"
    )
    channels: ChannelsOfStages = Field(
        512,
        description="channels of the output map; for a second_fpn also a list of what the stages at 1/4, 1/8, 1/16 and "
        "1/32 give to it, for one number a quarter each",
    )

    @property
    def out_channels(self) -> int:
        """Channels of the output map."""
        return self.channels if isinstance(self.channels, int) else sum(self.channels)

    @property
    def channels_of_stages(self) -> tuple[int, ...]:
        """What each of the four stages gives to the map of a second_fpn."""
        return (self.channels // 4,) * 4 if isinstance(self.channels, int) else self.channels

    @model_validator(mode="after")
    def _channels_of_kind(self) -> "CameraNeckConfig":
        if self.kind == "lss_fpn" and not isinstance(self.channels, int):
            raise ValueError(
                f"channels of an lss_fpn, which adds its stages, is one number, found {list(self.channels)}; give one, "
                "or set kind: second_fpn"
            )
        if self.kind == "second_fpn" and len(self.channels_of_stages) != 4:
            raise ValueError(
                f"channels of a second_fpn are one number or a list of four, of the stages at 1/4, 1/8, 1/16 and 1/32, "
                f"found {list(self.channels_of_stages)}"
            )
        return self


class ViewTransformConfig(Section):
    """Lift-splat view transform from image features to BEV."""

    kind: Literal["lss", "depth_lss"] = Field("lss", description="plain LSS, or LSS with a sparse LiDAR depth image")
    depth_range_m: NonNegativeRange = Field(
        (1.0, 60.0), description="lower edges of the first and (exclusive) last depth bin (m)"
    )
    depth_step_m: Positive = Field(1.0, description="length of a depth bin (m)")
    z_range_m: Range = Field((-10.0, 10.0), description="heights that are pooled (m)")
    channels: Channels = Field(80, description="channels of the camera BEV map")
    downsample: Literal[1, 2] = Field(1, description="2: pool at half the cell size, then a stride-2 convolution")

    @property
    def depth_bins(self) -> int:
        """Bins of `depth_step_m` in `depth_range_m`."""
        return round((self.depth_range_m[1] - self.depth_range_m[0]) / self.depth_step_m)

    @model_validator(mode="after")
    def _some_bins(self) -> "ViewTransformConfig":
        if not 1 <= self.depth_bins <= _MOST_DEPTH_BINS:
            lower, upper = self.depth_range_m
            raise ValueError(
                f"depth_range_m from {lower:g} to {upper:g} m in steps of depth_step_m={self.depth_step_m:g} m are "
                f"{self.depth_bins} depth bins; expected 1 to {_MOST_DEPTH_BINS}"
            )
        return self


class CameraBranchConfig(Section):
    """Images to a camera BEV map."""

    backbone: BackboneConfig = Field(default_factory=ResNetConfig, description="image backbone")
    neck: CameraNeckConfig = Field(default_factory=CameraNeckConfig, description="feature pyramid")
    view_transform: ViewTransformConfig = Field(default_factory=ViewTransformConfig, description="image to BEV")

    @model_validator(mode="after")
    def _enough_stages(self) -> "CameraBranchConfig":
        if self.backbone.kind == "swin" and self.neck.kind == "second_fpn":
            raise ValueError("the neck second_fpn merges four stages and a swin backbone gives three; use lss_fpn")
        return self


class LidarBranchConfig(Section):
    """LiDAR points to a BEV map: voxels and a sparse 3D encoder of stride 8 in x and y."""

    voxel_m: tuple[Positive, Positive, Positive] = Field((0.075, 0.075, 0.2), description="voxel size in x, y, z (m)")
    max_points: PositiveInt = Field(10, le=200, description="points kept of a voxel, first come first served")
    max_voxels_train: PositiveInt = Field(120000, description="voxels kept of a sample while training")
    max_voxels_test: PositiveInt = Field(160000, description="voxels kept of a sample at test time")
    feature_scales: tuple[NonNegative, NonNegative, NonNegative, NonNegative, NonNegative] = Field(
        (1.0, 1.0, 1.0, 1.0, 1.0),
        description="factors on a voxel's mean x, y, z (m), intensity (0 to 255) and age (s) before the encoder; ones "
        "as published. Bringing them to one size lets short runs see the age, which is what shows motion",
    )
    stem_channels: Channels = Field(16, description="channels of the first sparse convolution")
    stage_channels: tuple[ChannelsOfLayers, ...] = Field(
        ((16, 16, 32), (32, 32, 64), (64, 64, 128), (128, 128)),
        min_length=1,
        max_length=8,
        description="per stage: channels of each layer; the last of every stage but the final one is "
        "the stride-2 convolution",
    )
    out_channels: Channels = Field(
        128, description="channels of the last convolution; the map has this times the heights left"
    )


class RadarBranchConfig(Section):
    """Radar points to a BEV map: pillars on the BEV grid, a pillar net, optional calibration."""

    max_points: PositiveInt = Field(20, le=200, description="points kept of a pillar, first come first served")
    max_pillars_train: PositiveInt = Field(30000, description="pillars kept of a sample while training")
    max_pillars_test: PositiveInt = Field(60000, description="pillars kept of a sample at test time")
    channels: ChannelsOfLayers = Field((256, 256, 256, 256), description="channels of the pillar net's layers")
    calibration: bool = Field(
        False, description="three dilated convolutions after the scatter and the radar activation (distilled student)"
    )
    calibration_residual: Annotated[bool, OmittedAtDefault] = Field(
        False,
        description="calibration adds to the map, at first nothing, so that a student continues the plain one; as "
        "published it replaces the map",
    )
    padding: Literal["released", "masked"] = Field(
        "released", description="empty point slots take part in maximum and batch norm as in the released code, or not"
    )


class FuserConfig(Section):
    """How the modality maps become one."""

    kind: Literal["gated", "conv"] = Field("gated", description="gated (CRKD) or plain convolution (BEVFusion)")
    channels: Channels = Field(256, description="channels of the fused map")


class DecoderConfig(Section):
    """BEV decoder and its pyramid; the defaults are the residual one of the published models."""

    kind: Literal["residual", "second"] = Field(
        "residual",
        description="residual stages, the last merged with the first (CRKD), or SECOND's plain ones, all merged",
    )
    channels: ChannelsOfLayers = Field((128, 256, 512), description="channels of the stages")
    strides: Annotated[tuple[Stride, ...], Field(min_length=1, max_length=100)] | None = Field(
        None, description="stride of each stage; not given: 2, 2, 1 of a residual decoder and 1, 2 of a second"
    )
    blocks: BlocksOfStages = Field(
        2,
        description="basic blocks (residual) or convolutions after the first (second) of each stage, as one number or "
        "one a stage",
    )
    out_channels: ChannelsOfStages = Field(
        256,
        description="channels of the decoded map; for a second decoder also a list of what each stage gives to it, for "
        "one number equal parts",
    )

    @property
    def map_channels(self) -> int:
        """Channels of the decoded map."""
        return self.out_channels if isinstance(self.out_channels, int) else sum(self.out_channels)

    @property
    def out_channels_of_stages(self) -> tuple[int, ...]:
        """What each stage gives to the map of a second decoder."""
        stages = len(self.strides_of_stages)
        return (self.out_channels // stages,) * stages if isinstance(self.out_channels, int) else self.out_channels

    @property
    def blocks_of_stages(self) -> tuple[int, ...]:
        """`blocks` of every stage."""
        return (self.blocks,) * len(self.channels) if isinstance(self.blocks, int) else self.blocks

    @property
    def strides_of_stages(self) -> tuple[int, ...]:
        """`strides` of every stage."""
        return self.strides or ((2, 2, 1) if self.kind == "residual" else (1, 2))

    @property
    def divisor(self) -> int:
        """What the sides of the map must be multiples of."""
        return self.strides_of_stages[0] if self.kind == "residual" else prod(self.strides_of_stages)

    @model_validator(mode="after")
    def _stages(self) -> "DecoderConfig":
        stages = len(self.strides_of_stages)
        if not len(self.channels) == len(self.blocks_of_stages) == stages:
            raise ValueError(
                f"a {self.kind} decoder of {stages} strides has {stages} stages, found {len(self.channels)} channels "
                f"and {len(self.blocks_of_stages)} numbers of blocks"
            )
        if self.kind == "residual" and not isinstance(self.out_channels, int):
            raise ValueError(
                f"out_channels of a residual decoder is one number, found {list(self.out_channels)}; give one, or set "
                "kind: second"
            )
        given = self.out_channels_of_stages
        if self.kind == "second" and (len(given) != stages or sum(given) != self.map_channels):
            number_or_list = self.out_channels if isinstance(self.out_channels, int) else list(self.out_channels)
            raise ValueError(
                f"out_channels of a second decoder of {stages} stages must be a multiple of that, or a list of "
                f"{stages}, found {number_or_list}"
            )
        return self


class NMSConfig(Section):
    """Selecting boxes from a head's peaks."""

    score_threshold: Fraction = Field(0.1, description="detections below this score are dropped")
    max_candidates: PositiveInt = Field(500, description="highest cells kept of a task before suppression")
    max_rotated: PositiveInt = Field(1000, le=20_000, description="highest boxes of a task that rotated NMS looks at")
    max_detections: PositiveInt = Field(83, description="detections kept of a task")
    centre_limit_m: Positive = Field(61.2, description="centres beyond +- this in x or y are dropped (m)")
    height_limit_m: Positive = Field(10.0, description="centres beyond +- this in z are dropped (m)")
    rotated_iou: Fraction = Field(0.2, description="rotated NMS: overlap above which the lower score goes")
    circle_classes: dict[str, Positive] = Field(
        default_factory=lambda: nuscenes().circle_nms_m2,
        description="tasks that use circle NMS, by first class: threshold on the *squared* centre distance (m^2)",
    )
    size_factors: dict[str, Positive] = Field(
        default_factory=lambda: nuscenes().nms_size_factors,
        description="factor on width and length for rotated NMS, by class",
    )


class HeadConfig(Section):
    """CenterPoint head and its detection loss."""

    shared_channels: Channels = Field(64, description="channels of the shared convolution")
    map_channels: Channels | None = Field(
        None, description="channels of each map's own convolution; not given: as the shared one"
    )
    heatmap_bias: Finite = Field(
        -2.19, ge=-100, le=100, description="initial bias of the heatmap logits (the released code never applies it)"
    )
    gaussian_overlap: Probability = Field(0.1, description="overlap that sets the Gaussian radius")
    min_radius_cells: PositiveInt = Field(2, le=1000, description="smallest Gaussian radius (cells)")
    max_objects: PositiveInt = Field(500, description="objects supervised of a task and sample")
    box_loss_weight: Positive = Field(0.25, description="weight of the L1 term against the heatmap term")
    velocity_weight: NonNegative = Field(
        1.0, description="weight of velocity within the L1 term (teacher 0.2, student 1.0)"
    )
    yaw_beta: NonNegative = Field(
        0.0, description="errors of sine and cosine of yaw below this count quadratically (0: L1, as published)"
    )
    velocity_beta_mps: NonNegative = Field(
        0.0,
        description="velocity errors below this count quadratically (m/s; 0: L1, as published). Raise it for short "
        "runs: L1 first settles on the median, which is standing still, and then takes long to leave it",
    )
    nms: NMSConfig = Field(default_factory=NMSConfig, description="selection of detections")


class DetectorConfig(Section):
    """One detector; teacher and student differ only in what stands here."""

    modalities: tuple[Modality, ...] = Field(description="sensors used: camera, lidar, radar")
    camera: CameraBranchConfig = Field(default_factory=CameraBranchConfig, description="camera branch")
    lidar: LidarBranchConfig = Field(default_factory=LidarBranchConfig, description="LiDAR branch")
    radar: RadarBranchConfig = Field(default_factory=RadarBranchConfig, description="radar branch")
    fuser: FuserConfig = Field(default_factory=FuserConfig, description="fusion of two modality maps")
    decoder: DecoderConfig = Field(default_factory=DecoderConfig, description="BEV decoder")
    head: HeadConfig = Field(default_factory=HeadConfig, description="detection head")
    norm_momentum: Share = Field(
        0.01,
        description="momentum of the batch norms over points, pillars, voxels and the SECOND-style pyramid; raise it "
        "for runs of a few hundred steps, whose running statistics would lag behind",
    )

    @model_validator(mode="after")
    def _known_modality_sets(self) -> "DetectorConfig":
        chosen = set(self.modalities)
        if len(chosen) != len(self.modalities) or not chosen or {"lidar", "radar"} <= chosen:
            raise ValueError(
                "modalities must be one of camera, lidar, radar, or camera with lidar or radar, "
                f"found {', '.join(self.modalities) or 'none'}"
            )
        if self.camera.view_transform.kind == "depth_lss" and "camera" in chosen and "lidar" not in chosen:
            raise ValueError("the view transform depth_lss needs lidar among the modalities; use lss")
        return self
