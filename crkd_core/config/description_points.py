"""What a data set's LiDAR and radar files hold, and what a radar point enters the network with."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from crkd_core.config.numbers import PointColumns
from crkd_core.config.radar_features import NUSCENES_FEATURES, POSITION, RadarFeature, columns_of
from crkd_core.config.sections import Distinct, Name, Section


class LidarPoints(Section):
    """What LiDAR files hold beside x, y and z."""

    columns: PointColumns | None = Field(
        None, description="float32 values a point of files without header; not given: told from the files"
    )
    intensity_field: Name | None = Field("intensity", description="PCD field of the intensity")
    time_field: Name | None = Field(
        None, description="PCD field of each point's time stamp (us); not given: that of the sweep holds for all"
    )


class RadarPoints(Section):
    """What radar files hold beside x, y and z."""

    velocity: Literal["compensated", "relative"] = Field(
        "compensated", description="velocity over ground, or relative to the moving sensor"
    )
    velocity_fields: Annotated[tuple[Name, ...], Distinct, Field(min_length=1, max_length=3)] = Field(
        ("vx_comp", "vy_comp"),
        description="fields of the velocity along x, y and, if measured, z (m/s, sensor frame); or the one field of "
        "the speed along the line of sight, positive away from the sensor",
    )
    rcs_field: Name | None = Field("rcs", description="field of the radar cross-section (dBsm)")
    codes: bool = Field(False, description="points have nuScenes' codes dyn_prop, ambig_state, invalid_state, pdh0")
    elevation: bool = Field(False, description="z is measured, as 4D radars do, and not filled in")
    features: Annotated[tuple[RadarFeature, ...], Distinct, Field(min_length=1)] | None = Field(
        None,
        description="what a point enters the network with; not given: nuScenes' 45 columns where points have codes, "
        "otherwise x, y, z, rcs, vx, vy, vz (where elevation is measured) and time_lag",
    )

    @property
    def network_features(self) -> tuple[RadarFeature, ...]:
        """What a point enters the network with."""
        if self.features is not None:
            return self.features
        if self.codes:
            return NUSCENES_FEATURES
        return (*POSITION, "rcs", "vx", "vy", *(("vz",) if self.elevation else ()), "time_lag")

    @property
    def feature_columns(self) -> int:
        """Columns of :attr:`network_features`."""
        return columns_of(self.network_features)

    @model_validator(mode="after")
    def _usable_features(self) -> "RadarPoints":
        features = self.network_features
        if features[: len(POSITION)] != POSITION:
            raise ValueError(f"features begin with {', '.join(POSITION)}, found {', '.join(features)}")
        if "vz" in features and not self.elevation:
            raise ValueError("features name vz, which only radars that measure elevation have; leave it out")
        return self
