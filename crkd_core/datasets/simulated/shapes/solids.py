"""Solid shapes: every object is a few convex six-faced parts, with painted patches on their faces.

The LiDAR meets the parts (as sets of half-spaces), the cameras draw the faces and patches, so both see the same thing.
Object frame: x to the front, y to the left, z up, origin on the ground below the middle.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from crkd_core.datasets.simulated.arrays import Array

Number = float | int
Colour = tuple[Number, Number, Number]
"""Red, green, blue, 0 to 255."""

# Corners 0..3 are the bottom, counter-clockwise from front left; 4..7 the top, in the same order.
_FACES = {
    "front": (3, 0, 4, 7),
    "left": (0, 1, 5, 4),
    "back": (1, 2, 6, 5),
    "right": (2, 3, 7, 6),
    "top": (4, 5, 6, 7),
    "bottom": (0, 3, 2, 1),
}
_UNIT = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]]) / 2


@dataclass(frozen=True)
class Shape:
    """Arrays of one object: P parts, F faces, V polygon vertices (each face has its own)."""

    corners: Array  # (P, 8, 3)
    normals: Array  # (P, 6, 3) outward
    offsets: Array  # (P, 6): inside is normal . x <= offset
    reflectivity: Array  # (P,) 0..1 at the LiDAR's wavelength
    vertices: Array  # (V, 3)
    face_sizes: NDArray[np.int64]  # (F,) vertices of each face
    face_normals: Array  # (F, 3)
    face_colours: Array  # (F, 3)
    face_parts: NDArray[np.int64]  # (F,)
    face_glow: Array  # (F,) 0: lit by the scene, 1: shines by itself
    face_solid: NDArray[np.bool_]  # (F,) False for painted patches

    @property
    def low(self) -> Array:
        """(3,) lowest coordinates."""
        return self.corners.min(axis=(0, 1))

    @property
    def high(self) -> Array:
        """(3,) highest coordinates."""
        return self.corners.max(axis=(0, 1))


@dataclass
class ShapeBuilder:
    """Collects parts and patches; :meth:`build` gives the arrays."""

    _corners: list[Array] = field(default_factory=list)
    _reflectivity: list[float] = field(default_factory=list)
    _faces: list[tuple[Array, Colour, int, float, bool]] = field(default_factory=list)

    def box(
        self,
        low: tuple[Number, Number, Number],
        high: tuple[Number, Number, Number],
        colour: Colour,
        *,
        top_x: tuple[float, float] = (0.0, 0.0),
        top_y: float = 0.0,
        reflectivity: float = 0.3,
        skip: tuple[str, ...] = (),
    ) -> int:
        """Add a part between two corners; returns its index.

        Args:
            low, high: Opposite corners in metres, object frame.
            colour: Paint of all faces.
            top_x: How far the top edge moves inward at the back and at the front, in metres (sloped screens).
            top_y: How far both top side edges move inward, in metres.
            reflectivity: 0 to 1, for the LiDAR.
            skip: Faces that are never seen and need not be drawn.
        """
        centre = (np.array(low) + high) / 2
        size = np.array(high) - low
        corners = np.zeros((8, 3))
        corners[:4, :2] = corners[4:, :2] = centre[:2] + _UNIT * size[:2]
        corners[:4, 2], corners[4:, 2] = low[2], high[2]
        corners[[4, 7], 0] -= top_x[1]
        corners[[5, 6], 0] += top_x[0]
        corners[[4, 5], 1] -= top_y
        corners[[6, 7], 1] += top_y
        self._corners.append(corners)
        self._reflectivity.append(reflectivity)
        part = len(self._corners) - 1
        for name, index in _FACES.items():
            if name not in skip and name != "bottom":
                self._faces.append((corners[list(index)], colour, part, 0.0, True))
        return part

    def patch(
        self,
        part: int,
        face: str,
        rectangle: tuple[Number, Number, Number, Number],
        colour: Colour,
        *,
        glow: float = 0.0,
    ) -> None:
        """Paint a rectangle (left, bottom, right, top as fractions, seen from outside) on a face of a part."""
        quad = self._corners[part][list(_FACES[face])]
        left, bottom, right, top = rectangle
        u = np.array([[left], [right], [right], [left]])
        v = np.array([[bottom], [bottom], [top], [top]])
        low, high = quad[0] * (1 - u) + quad[1] * u, quad[3] * (1 - u) + quad[2] * u
        polygon = low * (1 - v) + high * v
        self._faces.append((polygon, colour, part, glow, False))

    def wheel(
        self,
        x: float,
        y: tuple[Number, Number],
        radius: float,
        hub: Colour = (150, 150, 155),
        tyre_bottom: float = 0.0,
    ) -> None:
        """Add a wheel standing on the ground, axle along y at `x`, between the two `y`.

        `tyre_bottom` > 0 makes a wheel that sits flush in a body whose underside is that high: a thin disc outside at
        the larger |y|, and below the body the rest of the tyre. So wheel and body never overlap, and one of them can be
        drawn before the other.
        """
        tyre: Colour = (26, 26, 28)
        outer, inner = (y[1], y[0]) if abs(y[1]) >= abs(y[0]) else (y[0], y[1])
        if tyre_bottom > 0:
            disc_inner = outer - np.sign(outer) * 0.03
            low_y, high_y = sorted((float(disc_inner), inner))
            half = 0.75 * radius
            self.box(
                (x - half, low_y, 0.0),
                (x + half, high_y, tyre_bottom),
                tyre,
                reflectivity=0.08,
                skip=("top",),
            )
            y = (float(min(outer, disc_inner)), float(max(outer, disc_inner)))
        every = ("left", "right", "top", "front", "back")
        part = self.box((x - radius, y[0], 0.0), (x + radius, y[1], 2 * radius), tyre, reflectivity=0.08, skip=every)
        angles = np.arange(12) * np.pi / 6
        for side, at in ((1, y[1]), (-1, y[0])):
            for scale, colour in ((1.0, tyre), (0.55, hub)):
                rim = radius * scale
                disc = np.stack(
                    [x + rim * np.cos(angles), np.full(12, at), radius + rim * np.sin(angles * side)], axis=1
                )
                self._faces.append((disc[::-1], colour, part, 0.0, scale == 1.0))
        if tyre_bottom > 0:
            return
        for begin in np.radians([-80, -27, 27, 100, 153, 207]):
            corners = [(a, side) for a, side in zip((0, 0, 1, 1), (0, 1, 1, 0), strict=True)]
            angle = [begin + a * np.radians(53) for a, _ in corners]
            tread = np.stack(
                [x + radius * np.cos(angle), [y[s] for _, s in corners], radius * (1 + np.sin(angle))], axis=1
            )
            self._faces.append((tread, tyre, part, 0.0, True))

    def build(self) -> Shape:
        """The arrays of everything added so far."""
        corners = np.stack(self._corners)
        quads = corners[:, [list(index) for index in _FACES.values()]]
        normals = _polygon_normals(quads.reshape(-1, 4, 3)).reshape(-1, 6, 3)
        offsets = (normals * quads[:, :, 0]).sum(axis=-1)
        return Shape(
            corners=corners,
            normals=normals,
            offsets=offsets,
            reflectivity=np.array(self._reflectivity),
            vertices=np.concatenate([face[0] for face in self._faces]),
            face_sizes=np.array([len(face[0]) for face in self._faces]),
            face_normals=_polygon_normals(np.stack([face[0][:3] for face in self._faces])),
            face_colours=np.array([face[1] for face in self._faces], dtype=float),
            face_parts=np.array([face[2] for face in self._faces]),
            face_glow=np.array([face[3] for face in self._faces]),
            face_solid=np.array([face[4] for face in self._faces]),
        )


def _polygon_normals(polygons: Array) -> Array:
    """Unit normals of (N, K, 3) planar polygons, pointing to where their vertices run counter-clockwise."""
    normal = np.cross(polygons[:, 1] - polygons[:, 0], polygons[:, 2] - polygons[:, 0])
    return normal / np.linalg.norm(normal, axis=-1, keepdims=True)
