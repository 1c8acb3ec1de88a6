"""All things of a scene as flat arrays, so that sensors work on everything at once."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from crkd_core.datasets.simulated.arrays import Array
from crkd_core.datasets.simulated.world.script import Thing

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Placement:
    """Where all things are at one moment, world frame; each field of shape (things,)."""

    x: Array
    y: Array
    yaw: Array
    vx: Array
    vy: Array
    yaw_rate: Array

    def subset(self, which: Indices) -> "Placement":
        """The same for some of the things."""
        return Placement(*(getattr(self, name)[which] for name in ("x", "y", "yaw", "vx", "vy", "yaw_rate")))


@dataclass(frozen=True)
class Parts:
    """Convex parts of all things, object frames (P parts)."""

    thing: Indices
    corners: NDArray[np.float32]  # (P, 8, 3)
    low: Array  # (P, 3)
    high: Array
    normals: NDArray[np.float32]  # (P, 6, 3)
    offsets: NDArray[np.float32]  # (P, 6)
    reflectivity: NDArray[np.float32]


@dataclass(frozen=True)
class Faces:
    """Polygons of all things, object frames (F faces with V vertices in all)."""

    thing: Indices
    part: Indices  # index into Parts
    size: Indices  # vertices per face
    start: Indices
    normal: NDArray[np.float32]
    colour: NDArray[np.float32]
    glow: NDArray[np.float32]
    solid: NDArray[np.bool_]
    vertices: NDArray[np.float32]  # (V, 3)
    vertex_thing: Indices


@dataclass(frozen=True)
class Assembly:
    """Parts, faces and footprints of all things; `part_orders` remembers drawing orders that were needed before."""

    parts: Parts
    faces: Faces
    low: Array  # (things, 3) object frame
    high: Array
    first_part: list[int]  # (things + 1)
    part_orders: dict[tuple[int, bytes], list[int]] = field(default_factory=dict)


def assemble(things: tuple[Thing, ...]) -> Assembly:
    """Concatenate the shapes of all things."""
    shapes = [thing.shape for thing in things]
    part_counts = np.array([len(shape.corners) for shape in shapes])
    part_base = np.cumsum(part_counts) - part_counts
    face_counts = np.array([len(shape.face_sizes) for shape in shapes])
    index = np.arange(len(shapes))

    def joined(name: str) -> NDArray[np.float32]:
        return np.concatenate([getattr(shape, name) for shape in shapes]).astype(np.float32)

    size = np.concatenate([shape.face_sizes for shape in shapes])
    faces = Faces(
        thing=np.repeat(index, face_counts),
        part=np.concatenate([shape.face_parts + base for shape, base in zip(shapes, part_base, strict=True)]),
        size=size,
        start=np.cumsum(size) - size,
        normal=joined("face_normals"),
        colour=joined("face_colours"),
        glow=joined("face_glow"),
        solid=np.concatenate([shape.face_solid for shape in shapes]),
        vertices=joined("vertices"),
        vertex_thing=np.repeat(index, [len(shape.vertices) for shape in shapes]),
    )
    parts = Parts(
        thing=np.repeat(index, part_counts),
        corners=joined("corners"),
        low=np.concatenate([shape.corners.min(axis=1) for shape in shapes]),
        high=np.concatenate([shape.corners.max(axis=1) for shape in shapes]),
        normals=joined("normals"),
        offsets=joined("offsets"),
        reflectivity=joined("reflectivity"),
    )
    low = np.stack([shape.low for shape in shapes])
    high = np.stack([shape.high for shape in shapes])
    return Assembly(parts, faces, low, high, [*part_base.tolist(), int(part_counts.sum())])


def turn(vectors: NDArray, yaw: NDArray) -> NDArray:
    """Rotate (N, ..., 3) vectors about z by the (N,) angles."""
    extra = (1,) * (vectors.ndim - 2)
    c = np.cos(yaw).astype(vectors.dtype).reshape(-1, *extra)
    s = np.sin(yaw).astype(vectors.dtype).reshape(-1, *extra)
    x, y = vectors[..., 0], vectors[..., 1]
    return np.stack([c * x - s * y, s * x + c * y, vectors[..., 2]], axis=-1)
