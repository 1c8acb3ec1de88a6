"""Section ``data``: the BEV area, images, point clouds and augmentation that teacher and student share."""

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from crkd_core.config.numbers import (
    Fraction,
    NonNegative,
    PointColumns,
    Positive,
    PositiveInt,
    PositiveSpread,
    Range,
    Share,
    Spread,
    Sweeps,
)
from crkd_core.config.sections import OmittedAtDefault, Section, known_classes

if TYPE_CHECKING:
    import crkd_core.geometry.grid

NUSCENES_COLUMNS = 5
"""float32 values a LiDAR point in nuScenes' files."""
# A map of 2048 x 2048 cells and 64 channels is 1 GiB.
MOST_CELLS = 2**22
MOST_RESIZE = 4.0


def _moderate(factors: tuple[float, float]) -> tuple[float, float]:
    if factors[1] > MOST_RESIZE:
        raise ValueError(f"factors are at most {MOST_RESIZE:g}, found {factors[1]:g}")
    return factors


Resizes = Annotated[PositiveSpread, AfterValidator(_moderate)]


class GridConfig(Section):
    """The area that is detected in and the BEV cells of the fused maps and the head."""

    x_range_m: Range = Field((-54.0, 54.0), description="lower and upper x (m, model frame, right)")
    y_range_m: Range = Field((-54.0, 54.0), description="lower and upper y (m, model frame, forward)")
    z_range_m: Range = Field((-5.0, 3.0), description="lower and upper z (m, model frame, up)")
    cell_m: Positive = Field(0.6, description="side of a BEV cell (m)")
    rounding: Literal["floor", "truncate"] = Field(
        "floor",
        description="metres to cells; truncate repeats the released code: one cell more below the lower borders "
        "falls into the first one",
    )

    @property
    def _ranges_m(self) -> dict[str, tuple[float, float]]:
        return {"x": self.x_range_m, "y": self.y_range_m}

    @property
    def cells(self) -> tuple[int, int]:
        """Number of cells along x and y."""
        x, y = (round((upper - lower) / self.cell_m) for lower, upper in (self.x_range_m, self.y_range_m))
        return x, y

    def build(self) -> "crkd_core.geometry.grid.BEVGrid":
        """The grid as the geometry floor knows it."""
        # Here, because it imports torch: preparing data needs none.
        from crkd_core.geometry.grid import BEVGrid

        return BEVGrid(self.x_range_m, self.y_range_m, self.z_range_m, self.cell_m, self.rounding)

    @model_validator(mode="after")
    def _whole_cells(self) -> "GridConfig":
        sides = {name: (upper - lower) / self.cell_m for name, (lower, upper) in self._ranges_m.items()}
        if sides["x"] * sides["y"] > MOST_CELLS:
            raise ValueError(
                f"{sides['x']:.0f} x {sides['y']:.0f} BEV cells of {self.cell_m} m are more than any machine holds (at "
                f"most {MOST_CELLS}); raise cell_m"
            )
        for name, (lower, upper) in self._ranges_m.items():
            cells = sides[name]
            if abs(cells - round(cells)) > 1e-6 or round(cells) % 4:
                raise ValueError(
                    f"the {name} range {lower} to {upper} m must hold a multiple of 4 whole cells of {self.cell_m} m "
                    f"(the decoder halves the map twice), found {cells:.3f}"
                )
        return self


class ImageConfig(Section):
    """Network input images, and how training varies them."""

    height_px: PositiveInt = Field(256, description="input height (px)", multiple_of=32, le=4096)
    width_px: PositiveInt = Field(704, description="input width (px)", multiple_of=32, le=4096)
    train_resize: Resizes = Field(
        (0.38, 0.55), description="random resize factor of a 1600 px wide image (others in proportion)"
    )
    test_resize: Positive = Field(
        0.48, le=MOST_RESIZE, description="resize factor of a 1600 px wide image at test time"
    )
    rotation_deg: Spread = Field((-5.4, 5.4), description="random image rotation (degrees)")
    flip: bool = Field(True, description="random horizontal image flip while training")
    mean: tuple[Fraction, Fraction, Fraction] = Field((0.485, 0.456, 0.406), description="RGB mean (0 to 1)")
    std: tuple[Share, Share, Share] = Field((0.229, 0.224, 0.225), description="RGB deviation (0 to 1)")
    decode: Annotated[Literal["exact", "fast"], OmittedAtDefault] = Field(
        "exact",
        description="fast: JPEGs that are resized to at most 1.125 / 2 (4, 8) of their size are decoded at a half "
        "(a quarter, an eighth): less processor time, slightly other pixels",
    )


class LidarConfig(Section):
    """LiDAR points before voxelisation."""

    sweeps: Sweeps = Field(10, description="sweeps a sample, the key frame included")
    # A property of the data set that runs of nuScenes itself need not name.
    columns: Annotated[PointColumns, OmittedAtDefault] = Field(
        NUSCENES_COLUMNS,
        description="float32 values a point in the files: x, y, z, intensity, then any; prepare records it",
    )
    min_distance_m: NonNegative = Field(
        1.0, description="points of earlier sweeps nearer than this in x and y are dropped (m)"
    )
    random_sweeps: bool = Field(
        True, description="draw the earlier sweeps at random while training (always the nearest at test time)"
    )


class RadarConfig(Section):
    """Radar points before the pillars."""

    sweeps: Sweeps = Field(6, description="sweeps a radar, the key frame included")


class BEVAugmentationConfig(Section):
    """Random BEV transform of a training sample; the same for every sensor and the boxes."""

    rotation_deg: Spread = Field((0.0, 0.0), description="rotation about z (degrees)")
    scale: PositiveSpread = Field((0.9, 1.1), description="uniform scale")
    translation_std_m: NonNegative = Field(0.5, description="deviation of the translation in x, y and z (m)")
    flip_x: bool = Field(True, description="mirror x with probability 1/2")
    flip_y: bool = Field(True, description="mirror y with probability 1/2")


class PasteConfig(Section):
    """Pasting objects of other samples into the LiDAR points of a training sample; the defaults are the published ones.

    Only points and boxes are pasted, no pixels and no radar points: it is for teachers of LiDAR alone.
    """

    enabled: bool = Field(False, description="paste objects")
    objects: dict[str, PositiveInt] = Field(
        {
            "car": 2, "truck": 3, "construction_vehicle": 7, "bus": 4, "trailer": 6, "barrier": 2, "motorcycle": 6,
            "bicycle": 6, "pedestrian": 2, "traffic_cone": 2,
        },
        description="objects that a sample is filled up to, by class",
    )  # fmt: skip
    min_points: PositiveInt = Field(5, description="objects of fewer LiDAR points are not pasted")
    epochs: PositiveInt = Field(15, description="epochs from the first on that paste; those after them do not")
    samples: PositiveInt = Field(1000, description="training samples that objects are cut from and kept in memory")

    @model_validator(mode="after")
    def _known_classes(self) -> "PasteConfig":
        known_classes(self.objects)
        return self


class DataConfig(Section):
    """Everything about samples that teacher and student must agree on."""

    grid: GridConfig = Field(default_factory=GridConfig, description="detection area and BEV cells")
    image: ImageConfig = Field(default_factory=ImageConfig, description="input images")
    lidar: LidarConfig = Field(default_factory=LidarConfig, description="LiDAR points")
    radar: RadarConfig = Field(default_factory=RadarConfig, description="radar points")
    augment_student: BEVAugmentationConfig = Field(
        default_factory=BEVAugmentationConfig, description="BEV augmentation of student training and distillation"
    )
    augment_teacher: BEVAugmentationConfig = Field(
        default_factory=lambda: BEVAugmentationConfig(rotation_deg=(-45.0, 45.0)),
        description="BEV augmentation of teacher training",
    )
    paste_teacher: PasteConfig = Field(
        default_factory=PasteConfig, description="objects pasted in teacher training (LiDAR alone)"
    )
    augment_images: bool = Field(True, description="vary the images while training")
    class_balanced: bool = Field(True, description="class-balanced resampling of the training samples (CBGS)")
    released_radar_augmentation: bool = Field(
        False, description="quirk `radar_columns`: augment columns 3 and 4 as velocity, as the released code does"
    )
    train_fraction: Share = Field(1.0, description="fraction of the training samples of an epoch to use")
