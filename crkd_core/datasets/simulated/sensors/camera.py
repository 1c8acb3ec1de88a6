"""The cameras: faces of all things drawn back to front over the backdrop, and which thing each pixel shows."""

from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from crkd_core.datasets.simulated.arrays import Array
from crkd_core.datasets.simulated.sensors.assembly import Assembly, Indices, Placement, turn
from crkd_core.datasets.simulated.sensors.backdrop import Backdrop, Image, View, headlight, paint_backdrop
from crkd_core.datasets.simulated.sensors.depth_order import order_footprints, order_parts
from crkd_core.geometry.transforms import compose, inverse_rigid, rotate_vectors

_NEAR_M = 0.25
_SHADOW_RANGE_M = 55.0
_SUBPIXEL_BITS = 4


@dataclass(frozen=True)
class Drawing:
    """Polygons of one frame in the order to draw them, one thing after the other; pixels of the rendered size.

    Polygon k has the vertices `points[ends[k - 1]:ends[k]]`.
    """

    points: NDArray[np.float32]
    ends: list[int]
    colours: NDArray[np.float32]
    thing: Indices
    solid: NDArray[np.bool_]
    glow: NDArray[np.float32]


def render(
    view: View, backdrop: Backdrop, assembly: Assembly, placement: Placement, world_from_ego: Array
) -> tuple[Image, Drawing]:
    """One picture as RGB at the rendered size, before the camera's own flaws, and what was drawn."""
    world_from_camera = compose(world_from_ego, view.ego_from_camera)
    ego_yaw = float(np.arctan2(world_from_ego[1, 0], world_from_ego[0, 0]))
    image = paint_backdrop(view, backdrop, world_from_camera, ego_yaw)
    visible = _things_in_view(view, assembly, placement, world_from_camera)
    _paint_shadows(image, view, backdrop, assembly, placement, visible, world_from_camera)
    drawing = _draw_list(view, backdrop, assembly, placement, visible, world_from_ego, world_from_camera)
    line = cv2.LINE_AA if view.width > 1000 else cv2.LINE_8
    fixed, begin = _fixed(drawing.points), 0
    for end, colour in zip(drawing.ends, drawing.colours.tolist(), strict=True):
        cv2.fillConvexPoly(image, fixed[begin:end], colour, line, _SUBPIXEL_BITS)
        begin = end
    if backdrop.conditions.night:
        image = _bloom(image, drawing)
    return image, drawing


def label_pixels(view: View, drawing: Drawing, width: int) -> tuple[NDArray[np.int32], float]:
    """Which thing each pixel shows (-1: none) on a raster `width` pixels wide, and that raster's scale."""
    scale = width / view.width
    labels = np.full((round(view.height * scale), width), -1, dtype=np.int32)
    fixed, begin = _fixed(drawing.points * np.float32(scale)), 0
    for end, thing, solid in zip(drawing.ends, drawing.thing.tolist(), drawing.solid.tolist(), strict=True):
        if solid:
            cv2.fillConvexPoly(labels, fixed[begin:end], (thing,), cv2.LINE_8, _SUBPIXEL_BITS)
        begin = end
    return labels, scale


def silhouette_pixels(drawing: Drawing, shape: tuple[int, ...], scale: float, things: int) -> dict[int, int]:
    """How many pixels of a raster each of the first `things` would cover if nothing stood before it."""
    sizes = {}
    scaled = drawing.points * np.float32(scale)
    changes = np.flatnonzero(np.diff(drawing.thing)) + 1
    bounds = [0, *changes.tolist(), len(drawing.ends)]
    solid = drawing.solid.tolist()
    for first, last in pairwise(bounds):
        if last == first or drawing.thing[first] >= things:
            continue
        begin = drawing.ends[first - 1] if first else 0
        points = scaled[begin : drawing.ends[last - 1]]
        low = np.clip(np.floor(points.min(axis=0)).astype(int) - 1, 0, (shape[1], shape[0]))
        high = np.clip(np.ceil(points.max(axis=0)).astype(int) + 2, 0, (shape[1], shape[0]))
        if (high <= low).any():
            continue
        mask = np.zeros((high[1] - low[1], high[0] - low[0]), dtype=np.uint8)
        fixed, offset = _fixed(points - low.astype(np.float32)), begin
        for k in range(first, last):
            if solid[k]:
                polygon = fixed[begin - offset : drawing.ends[k] - offset]
                cv2.fillConvexPoly(mask, polygon, (1,), cv2.LINE_8, _SUBPIXEL_BITS)
            begin = drawing.ends[k]
        sizes[int(drawing.thing[first])] = int(cv2.countNonZero(mask))
    return sizes


def _fixed(polygon: NDArray[np.float32]) -> NDArray[np.int32]:
    return np.round(polygon * (1 << _SUBPIXEL_BITS)).astype(np.int32)


def _things_in_view(view: View, assembly: Assembly, placement: Placement, world_from_camera: Array) -> Indices:
    dx, dy = placement.x - world_from_camera[0, 3], placement.y - world_from_camera[1, 3]
    right, forward = world_from_camera[:3, 0], world_from_camera[:3, 2]
    depth = dx * forward[0] + dy * forward[1]
    lateral = dx * right[0] + dy * right[1]
    radius = np.hypot(np.abs(assembly.high[:, :2]).max(axis=1), np.abs(assembly.low[:, :2]).max(axis=1)) + 0.2
    tangent = max(view.centre[0], view.width - view.centre[0]) / view.focal
    outside = (np.abs(lateral) - tangent * depth) / np.hypot(1.0, tangent)
    return np.flatnonzero((depth > -radius) & (depth < view.sight_m) & (outside < radius))


def _draw_list(
    view: View,
    backdrop: Backdrop,
    assembly: Assembly,
    placement: Placement,
    visible: Indices,
    world_from_ego: Array,
    world_from_camera: Array,
) -> Drawing:
    faces = assembly.faces
    chosen = np.zeros(len(placement.x), dtype=bool)
    chosen[visible] = True
    face = np.flatnonzero(chosen[faces.thing])
    camera_from_world = inverse_rigid(world_from_camera)
    position = np.stack([placement.x, placement.y, np.zeros_like(placement.x)], axis=1) - world_from_camera[:3, 3]
    world_normals = turn(faces.normal[face], placement.yaw[faces.thing[face]])
    first = faces.start[face]
    anchors = turn(faces.vertices[first], placement.yaw[faces.thing[face]]) + position[faces.thing[face]].astype(
        np.float32
    )
    facing = np.flatnonzero((anchors * world_normals).sum(axis=1) < 0)
    face, world_normals, anchors = face[facing], world_normals[facing], anchors[facing]
    size = faces.size[face]
    start = np.cumsum(size) - size
    vertex = np.repeat(faces.start[face] - start, size) + np.arange(size.sum())
    owner = np.repeat(faces.thing[face], size)
    points = turn(faces.vertices[vertex], placement.yaw[owner]) + position[owner].astype(np.float32)
    points = rotate_vectors(camera_from_world[:3, :3], points)
    keep, pixels, clip = _on_screen(view, points, start, faces.solid[face])
    colours = _shade(
        backdrop,
        faces.colour[face],
        faces.glow[face],
        world_normals,
        anchors,
        world_from_ego,
        world_from_camera,
    )
    rank = _ranks(assembly, placement, visible, world_from_camera)
    order = keep[np.lexsort((face[keep], rank[faces.part[face[keep]]]))]
    polygons: list[NDArray[np.float32]] = [np.zeros((0, 2), dtype=np.float32)]
    drawn = []
    begins, ends, needs_clip = start.tolist(), (start + size).tolist(), clip.tolist()
    for k in order.tolist():
        polygon = pixels[begins[k] : ends[k]]
        if needs_clip[k]:
            polygon = _clip(view, points[begins[k] : ends[k]])
            if len(polygon) < 3:
                continue
        polygons.append(polygon)
        drawn.append(k)
    index = np.array(drawn, dtype=np.int64)
    return Drawing(
        np.concatenate(polygons),
        np.cumsum([len(polygon) for polygon in polygons[1:]]).tolist(),
        colours[index],
        faces.thing[face[index]],
        faces.solid[face[index]],
        faces.glow[face[index]],
    )


def _on_screen(
    view: View, points: NDArray[np.float32], start: Indices, solid: NDArray[np.bool_]
) -> tuple[Indices, NDArray[np.float32], NDArray[np.bool_]]:
    """Faces that may show, all vertices in pixels, and which faces have to be clipped first."""
    if len(start) == 0:
        return np.zeros(0, dtype=np.int64), np.zeros((0, 2), dtype=np.float32), np.zeros(0, dtype=bool)
    depth = np.maximum(points[:, 2], 1e-3)
    pixels = points[:, :2] / depth[:, None] * np.float32(view.focal) + np.array(view.centre, dtype=np.float32)
    nearest = np.minimum.reduceat(points[:, 2], start)
    furthest = np.maximum.reduceat(points[:, 2], start)
    low, high = np.minimum.reduceat(pixels, start), np.maximum.reduceat(pixels, start)
    clip = (nearest < _NEAR_M) | (low < -3000).any(axis=1) | (high > 5000).any(axis=1)
    area = (high - low).prod(axis=1)
    inside = (high > -1).all(axis=1) & (low[:, 0] < view.width) & (low[:, 1] < view.height)
    shows = (furthest > _NEAR_M) & (clip | (inside & (solid | (area > 1.5))))
    return np.flatnonzero(shows), pixels, clip


def _clip(view: View, polygon: NDArray[np.float32]) -> NDArray[np.float32]:
    """Cut a polygon in camera coordinates to the space before the camera (and a margin aside), and project it."""
    margin = 1.6
    wide, tall = margin * view.width / view.focal, margin * view.height / view.focal
    planes: tuple[tuple[float, ...], ...] = (
        (0, 0, 1, -_NEAR_M),
        (1, 0, wide, 0),
        (-1, 0, wide, 0),
        (0, 1, tall, 0),
        (0, -1, tall, 0),
    )
    points = polygon.astype(np.float64)
    inside = points[:, 2:] * (wide, tall) - np.abs(points[:, :2])
    if inside.min() >= 0 and points[:, 2].min() >= _NEAR_M:
        planes = ()
    for a, b, c, d in planes:
        side = points[:, 0] * a + points[:, 1] * b + points[:, 2] * c + d
        if (side >= 0).all():
            continue
        if (side < 0).all():
            return np.zeros((0, 2), dtype=np.float32)
        cut = []
        for k in range(len(points)):
            here, there = side[k], side[(k + 1) % len(points)]
            if here >= 0:
                cut.append(points[k])
            if (here >= 0) != (there >= 0):
                t = here / (here - there)
                cut.append(points[k] + t * (points[(k + 1) % len(points)] - points[k]))
        points = np.array(cut)
    return (points[:, :2] / points[:, 2:] * view.focal + np.array(view.centre)).astype(np.float32)


def _ranks(assembly: Assembly, placement: Placement, visible: Indices, world_from_camera: Array) -> Indices:
    """Position of every part in the drawing order."""
    rank = np.zeros(len(assembly.parts.thing), dtype=np.int64)
    if len(visible) == 0:
        return rank
    camera = world_from_camera[:3, 3]
    centres = np.stack([placement.x[visible], placement.y[visible]], axis=1)
    yaws = placement.yaw[visible]
    low, high = assembly.low[visible], assembly.high[visible]
    spans = _viewing_angles(centres, yaws, low, high, world_from_camera)
    order = order_footprints(camera[:2], centres, yaws, low[:, :2], high[:, :2], spans)
    counter = 0
    for k in order:
        thing = int(visible[k])
        begin, end = assembly.first_part[thing : thing + 2]
        parts = [0]
        if end - begin > 1:
            dx, dy = camera[:2] - centres[k]
            c, s = np.cos(yaws[k]), np.sin(yaws[k])
            local = np.array([c * dx + s * dy, -s * dx + c * dy, camera[2]])
            part_low, part_high = assembly.parts.low[begin:end], assembly.parts.high[begin:end]
            key = (thing, (local <= part_low).tobytes() + (local >= part_high).tobytes())
            if key not in assembly.part_orders:
                assembly.part_orders[key] = order_parts(local, part_low, part_high)
            parts = assembly.part_orders[key]
        for part in parts:
            rank[begin + part] = counter
            counter += 1
    return rank


def _viewing_angles(centres: Array, yaws: Array, low: Array, high: Array, world_from_camera: Array) -> Array:
    x = np.stack([low[:, 0], high[:, 0], high[:, 0], low[:, 0]], axis=1)
    y = np.stack([low[:, 1], low[:, 1], high[:, 1], high[:, 1]], axis=1)
    c, s = np.cos(yaws)[:, None], np.sin(yaws)[:, None]
    dx = centres[:, :1] + c * x - s * y - world_from_camera[0, 3]
    dy = centres[:, 1:] + s * x + c * y - world_from_camera[1, 3]
    depth = dx * world_from_camera[0, 2] + dy * world_from_camera[1, 2]
    lateral = dx * world_from_camera[0, 0] + dy * world_from_camera[1, 0]
    angle = np.arctan2(lateral, depth)
    spans = np.stack([angle.min(axis=1), angle.max(axis=1)], axis=1)
    spans[(depth < 0.2).any(axis=1)] = (-np.pi, np.pi)
    return spans


def _shade(
    backdrop: Backdrop,
    colours: NDArray[np.float32],
    glow: NDArray[np.float32],
    normals: NDArray[np.float32],
    anchors: NDArray[np.float32],
    world_from_ego: Array,
    world_from_camera: Array,
) -> NDArray[np.float32]:
    """Colours of faces under the light of the scene, fading into the haze; `anchors` are relative to the camera."""
    light = backdrop.light
    towards = (normals * light.to_sun.astype(np.float32)).sum(axis=1)
    skyward = 0.78 + 0.22 * normals[:, 2]
    level = light.ambient * skyward + light.sun * np.clip(towards, 0, 1)
    distance = np.sqrt((anchors**2).sum(axis=1))
    if backdrop.conditions.night:
        local = anchors[:, :2] + (world_from_camera[:2, 3] - world_from_ego[:2, 3]).astype(np.float32)
        c, s = np.float32(world_from_ego[0, 0]), np.float32(world_from_ego[1, 0])
        level = level + headlight(c * local[:, 0] + s * local[:, 1], -s * local[:, 0] + c * local[:, 1])
    lit = colours * np.minimum(level, 1.25)[:, None]
    shining = colours * (1.0 if backdrop.conditions.night else np.clip(level, 0.8, 1.1)[:, None])
    lit = lit * (1 - glow[:, None]) + shining * glow[:, None]
    haze = (1 - np.exp(-distance / light.haze_m))[:, None] * (1 - 0.6 * glow[:, None])
    return np.clip(lit * (1 - haze) + light.haze_colour * haze, 0, 255).astype(np.float32)


def _paint_shadows(
    image: Image,
    view: View,
    backdrop: Backdrop,
    assembly: Assembly,
    placement: Placement,
    visible: Indices,
    world_from_camera: Array,
) -> None:
    """Darken the ground under things, and where they keep the sun away, in the image, which the caller owns."""
    light = backdrop.light
    if view.horizon >= view.height:
        return
    camera_from_world = inverse_rigid(world_from_camera)
    rows = view.height - view.horizon
    cast = np.full((rows, view.width), 255, dtype=np.uint8)
    under = np.full((rows, view.width), 255, dtype=np.uint8)
    sunny = light.sun > 0.15
    lean = -light.to_sun[:2] / light.to_sun[2]
    offset = np.array([0, view.horizon], dtype=np.float32)
    for k in visible.tolist():
        low, high = assembly.low[k], assembly.high[k]
        away = np.hypot(placement.x[k] - world_from_camera[0, 3], placement.y[k] - world_from_camera[1, 3])
        if away > _SHADOW_RANGE_M or high[2] < 0.2:
            continue
        x = np.array([low[0], high[0], high[0], low[0]])
        y = np.array([low[1], low[1], high[1], high[1]])
        c, s = np.cos(placement.yaw[k]), np.sin(placement.yaw[k])
        foot = np.stack([placement.x[k] + c * x - s * y, placement.y[k] + s * x + c * y], axis=1)
        _ground_polygon(under, foot.astype(np.float32), view, camera_from_world, offset, 120)
        if sunny:
            both = np.concatenate([foot, foot + lean * high[2]]).astype(np.float32)
            _ground_polygon(cast, cv2.convexHull(both)[:, 0], view, camera_from_world, offset, 150)
    shadow = np.minimum(cast, under) if sunny else under
    size = max(3, view.width // 320 * 2 + 1)
    shadow = cv2.blur(shadow, (size, size))
    below = image[view.horizon :]
    cv2.multiply(below, cv2.merge([shadow] * 3), dst=below, scale=1 / 255)


def _ground_polygon(
    mask: Image,
    outline: NDArray[np.float32],
    view: View,
    camera_from_world: Array,
    offset: NDArray[np.float32],
    tone: int,
) -> None:
    points = np.column_stack([outline, np.zeros(len(outline))])
    points = rotate_vectors(camera_from_world[:3, :3], points) + camera_from_world[:3, 3]
    polygon = _clip(view, points.astype(np.float32))
    if len(polygon) >= 3:
        cv2.fillConvexPoly(mask, _fixed(polygon - offset), (tone,), cv2.LINE_8, _SUBPIXEL_BITS)


def _bloom(image: Image, drawing: Drawing) -> Image:
    """Halos around what shines."""
    shining = np.zeros((image.shape[0] // 4, image.shape[1] // 4, 3), dtype=np.uint8)
    fixed, begin = _fixed(drawing.points / np.float32(4)), 0
    colours = np.where(drawing.glow[:, None] > 0.5, drawing.colours, 0).tolist()
    for end, colour, matters in zip(
        drawing.ends, colours, ((drawing.glow > 0.5) | drawing.solid).tolist(), strict=True
    ):
        if matters:
            cv2.fillConvexPoly(shining, fixed[begin:end], colour, cv2.LINE_8, _SUBPIXEL_BITS)
        begin = end
    halo = cv2.GaussianBlur(shining, (0, 0), image.shape[1] / 4 / 110)
    wide = cv2.GaussianBlur(shining, (0, 0), image.shape[1] / 4 / 36)
    halo = cv2.addWeighted(halo, 0.7, wide, 0.8, 0)
    return cv2.add(image, cv2.resize(halo, (image.shape[1], image.shape[0]), interpolation=cv2.INTER_LINEAR))
