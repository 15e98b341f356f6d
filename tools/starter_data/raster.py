"""The canvas, and the few primitives that draw every object.

A primitive paints the image and writes the label together, so a mask always fits its picture. Far objects are drawn
first; later objects cover them. Image values are linear light, mixed with the haze according to depth.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp

import cv2
import numpy as np
import numpy.typing as npt

from starter_data.camera import NEAR_M, Camera, clip_near, to_camera, to_pixels
from starter_data.colour import Floats
from starter_data.weather import Weather

# Polygon corners are handed to OpenCV in 1/16 pixel.
_SHIFT = 4
_CIRCLE: Floats = np.stack([np.cos(np.arange(12) * np.pi / 6), np.sin(np.arange(12) * np.pi / 6)], axis=1).astype(
    np.float32
)


@dataclass(frozen=True)
class Canvas:
    """Where one frame is drawn: `image` H x W x 3 float32 linear light, `mask` H x W uint8 labels."""

    camera: Camera
    weather: Weather
    image: Floats
    mask: npt.NDArray[np.uint8]


def clear_air(weather: Weather, depth_m: float) -> float:
    """Share of light that reaches the camera from `depth_m`, 0..1."""
    return exp(-weather.haze_per_m * max(depth_m, 0.0))


def _corners(points_N2: Floats) -> npt.NDArray[np.int32]:
    # OpenCV counts from pixel centres; the projection counts from pixel corners.
    corners: npt.NDArray[np.int32] = np.rint((np.clip(points_N2, -3e4, 3e4) - 0.5) * (1 << _SHIFT)).astype(np.int32)
    return corners


def fill_pixels(canvas: Canvas, points_N2: Floats, colour: Floats, label: int, depth_m: float) -> None:
    """Fills a polygon given in pixels (N, 2) with one linear colour (3,) and one label."""
    low, high = points_N2.min(axis=0), points_N2.max(axis=0)
    if high[0] < 0 or high[1] < 0 or low[0] >= canvas.camera.width or low[1] >= canvas.camera.height:
        return
    clear = clear_air(canvas.weather, depth_m)
    mixed = colour * clear + canvas.weather.haze_RGB * (1.0 - clear)
    corners = [_corners(points_N2)]
    cv2.fillPoly(canvas.image, corners, tuple(map(float, mixed)), cv2.LINE_8, _SHIFT)
    cv2.fillPoly(canvas.mask, corners, (label,), cv2.LINE_8, _SHIFT)


def fill_polygon(canvas: Canvas, points_N3: Floats, colour: Floats, label: int) -> None:
    """Fills a polygon given in world metres (N, 3)."""
    seen = clip_near(to_camera(canvas.camera, points_N3))
    if len(seen) >= 3:
        fill_pixels(canvas, to_pixels(canvas.camera, seen), colour, label, float(seen[:, 2].mean()))


def fill_hull(canvas: Canvas, points_N3: Floats, radii_m: Floats, colour: Floats, label: int) -> None:
    """Fills the hull of balls (centres (N, 3), radii (N,), metres): limbs, torsos, posts and tubes are such hulls."""
    seen = to_camera(canvas.camera, points_N3)
    if float(seen[:, 2].min()) < NEAR_M:
        return
    centres = to_pixels(canvas.camera, seen)
    radii_px = canvas.camera.focal_px * radii_m / seen[:, 2]
    rims = (centres[:, None, :] + radii_px[:, None, None] * _CIRCLE[None]).reshape(-1, 2).astype(np.float32)
    hull = np.asarray(cv2.convexHull(rims), dtype=np.float32).reshape(-1, 2)
    fill_pixels(canvas, hull, colour, label, float(seen[:, 2].mean()))


def limb(canvas: Canvas, start: Floats, end: Floats, radii_m: tuple[float, float], colour: Floats, label: int) -> None:
    """Fills a tapered rod between two world points (3,)."""
    fill_hull(canvas, np.stack([start, end]), np.asarray(radii_m, dtype=np.float32), colour, label)


def outward_normal(face_N3: Floats, inside: Floats) -> Floats:
    """Unit normal (3,) of a flat face, turned away from the point `inside` (3,)."""
    normal = np.cross(face_N3[1] - face_N3[0], face_N3[2] - face_N3[0])
    normal = normal / max(float(np.linalg.norm(normal)), 1e-6)
    return (normal if float(normal @ (face_N3.mean(axis=0) - inside)) >= 0 else -normal).astype(np.float32)


def _region(canvas: Canvas, pixels_N2: Floats) -> tuple[int, int, int, int] | None:
    # The part of the canvas a polygon can touch, as x0, y0, x1, y1.
    x0, y0 = np.floor(np.clip(pixels_N2.min(axis=0) - 1, 0, 1e6)).astype(int)
    x1, y1 = np.ceil(np.minimum(pixels_N2.max(axis=0) + 1, (canvas.camera.width, canvas.camera.height))).astype(int)
    return (int(x0), int(y0), int(x1), int(y1)) if x1 - x0 >= 1 and y1 - y0 >= 1 else None


def _level(pyramid: tuple[Floats, ...], width_px: float, height_px: float) -> Floats:
    # The coarsest texture that still has about a texel per pixel; finer ones would flicker.
    for texture in reversed(pyramid):
        if texture.shape[1] >= 0.9 * width_px and texture.shape[0] >= 0.9 * height_px:
            return texture
    return pyramid[0]


def make_pyramid(texture: Floats) -> tuple[Floats, ...]:
    """A texture and its halvings down to about eight texels, each H x W x C float32, read-only."""
    levels = [texture]
    while min(levels[-1].shape[:2]) >= 16 and len(levels) < 6:
        height, width = levels[-1].shape[:2]
        levels.append(
            cv2.resize(levels[-1], (width // 2, height // 2), interpolation=cv2.INTER_AREA).astype(np.float32)
        )
    for level in levels:
        level.setflags(write=False)
    return tuple(levels)


def paste_wall(
    canvas: Canvas,
    pyramid: tuple[Floats, ...],
    foot_23: Floats,
    bottom_m: float,
    top_m: float,
    light: Floats,
    label: int,
) -> None:
    """Puts a texture on an upright rectangle.

    Through an alpha below 1 the image shows what stands behind; the mask does not.

    Args:
        canvas: where to draw.
        pyramid: from `make_pyramid`, RGB or RGBA, linear reflectance.
        foot_23: the two ground corners (2, 3) under the texture's left and right edge, world metres.
        bottom_m: height of the lower edge.
        top_m: height of the upper edge.
        light: (3,) linear light on the face.
        label: class index.
    """
    ends = to_camera(canvas.camera, foot_23)
    near = NEAR_M + 0.3
    if float(ends[:, 2].max()) <= near + 0.05:
        return
    cut = np.array([0.0, 1.0])
    for end in (0, 1):
        if ends[end, 2] < near:
            cut[end] = (near - ends[0, 2]) / (ends[1, 2] - ends[0, 2])
    feet = (foot_23[0] + cut[:, None] * (foot_23[1] - foot_23[0])).astype(np.float32)
    quad = np.concatenate([feet + (0, top_m, 0), feet[::-1] + (0, bottom_m, 0)]).astype(np.float32)
    seen = to_camera(canvas.camera, quad)
    seen[:, 2] = np.maximum(seen[:, 2], NEAR_M)
    pixels = to_pixels(canvas.camera, seen)
    region = _region(canvas, pixels)
    if region is None:
        return
    extent = pixels.max(axis=0) - pixels.min(axis=0)
    texture = _level(pyramid, float(extent[0]) / float(cut[1] - cut[0]), float(extent[1]))
    height, width = texture.shape[:2]
    depths = ends[0, 2] + (np.arange(width, dtype=np.float32) + 0.5) / width * (ends[1, 2] - ends[0, 2])
    clear = np.exp(-canvas.weather.haze_per_m * np.maximum(depths, 0.0))[None, :, None]
    painted = texture[..., :3] * (light * clear) + canvas.weather.haze_RGB * (1.0 - clear)
    if texture.shape[2] == 4:
        painted = np.concatenate([painted, texture[..., 3:]], axis=2)
    left, right = cut[0] * width, cut[1] * width
    source = np.array([[left, 0], [right, 0], [right, height], [left, height]], dtype=np.float32)
    _blend_quad(canvas, painted.astype(np.float32), source, pixels, region, label)


def _blend_quad(
    canvas: Canvas, painted: Floats, source_42: Floats, pixels_42: Floats, region: tuple[int, int, int, int], label: int
) -> None:
    x0, y0, x1, y1 = region
    target = pixels_42 - np.array([x0, y0], dtype=np.float32)
    # Corners to centres on both sides, or textures shift by half a pixel.
    transform = cv2.getPerspectiveTransform((source_42 - 0.5).astype(np.float32), (target - 0.5).astype(np.float32))
    size = (x1 - x0, y1 - y0)
    warped = cv2.warpPerspective(painted, transform, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    inside = np.zeros((y1 - y0, x1 - x0), dtype=np.uint8)
    cv2.fillConvexPoly(inside, _corners(target), (1,), cv2.LINE_8, _SHIFT)
    chosen = inside.astype(bool)
    image, mask = canvas.image[y0:y1, x0:x1], canvas.mask[y0:y1, x0:x1]
    if painted.shape[2] == 4:
        alpha = warped[..., 3:] * inside[..., None]
        image += alpha * (warped[..., :3] - image)
    else:
        np.copyto(image, warped, where=chosen[..., None])
    mask[chosen] = label


def paste_sprite(
    canvas: Canvas, pyramid: tuple[Floats, ...], foot: Floats, bottom_m: float, size_m: tuple[float, float], label: int
) -> None:
    """Puts an RGBA texture (lit already) on an upright card that faces the camera; its label goes where alpha > 0.5.

    Args:
        canvas: where to draw.
        pyramid: from `make_pyramid`, RGBA, linear light.
        foot: ground point (3,) under the card's middle, world metres.
        bottom_m: height of the card's lower edge.
        size_m: width and height of the card.
        label: class index.
    """
    seen = to_camera(canvas.camera, foot[None] + np.array([[0, bottom_m, 0]], dtype=np.float32))
    depth = float(seen[0, 2])
    if depth < NEAR_M + 0.6:
        return
    scale = canvas.camera.focal_px / depth
    middle, base = to_pixels(canvas.camera, seen)[0]
    width_px, height_px = size_m[0] * scale, size_m[1] * scale
    left, top = float(middle) - width_px / 2, float(base) - height_px
    box = np.array([[left, top], [left + width_px, top + height_px]], dtype=np.float32)
    region = _region(canvas, box)
    if region is None:
        return
    texture = _level(pyramid, width_px, height_px)
    x0, y0, x1, y1 = region
    ratio_x, ratio_y = texture.shape[1] / width_px, texture.shape[0] / height_px
    matrix = np.array(
        [[ratio_x, 0, (x0 - left + 0.5) * ratio_x - 0.5], [0, ratio_y, (y0 - top + 0.5) * ratio_y - 0.5]],
        dtype=np.float64,
    )
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    warped = cv2.warpAffine(texture, matrix, (x1 - x0, y1 - y0), flags=flags, borderMode=cv2.BORDER_CONSTANT)
    clear = clear_air(canvas.weather, depth)
    alpha = warped[..., 3:]
    image = canvas.image[y0:y1, x0:x1]
    image *= 1.0 - alpha
    image += alpha * (warped[..., :3] * clear + canvas.weather.haze_RGB * (1.0 - clear))
    canvas.mask[y0:y1, x0:x1][warped[..., 3] > 0.5] = label
