"""From a rendered picture to the JPEG a camera would deliver: exposure, rain, noise, vignetting, compression."""

import cv2
import numpy as np
from numpy.typing import NDArray

from crkd_core.datasets.simulated.sensors.backdrop import Image, View
from crkd_core.datasets.simulated.world.script import Conditions


class Film:
    """The flaws that all pictures of a scene share, prepared once: noise grain and vignetting."""

    def __init__(self, width: int, height: int, conditions: Conditions, rng: np.random.Generator) -> None:
        self._size = (width, height)
        self._conditions = conditions
        strength = 5.5 if conditions.night else (2.6 if conditions.rain else 2.0)
        shape = (height + 64, width + 64, 3)
        grain = rng.standard_normal(shape, dtype=np.float32) * strength
        self._grain = np.round(grain).astype(np.int16)
        x = (np.arange(width, dtype=np.float32) - width / 2) / width
        y = (np.arange(height, dtype=np.float32) - height / 2) / width
        falloff = 1 - 0.35 * (x[None] ** 2 + y[:, None] ** 2)
        self._vignette = cv2.merge([falloff] * 3)
        self._white = rng.normal(1.0, 0.02, 3)

    def develop(self, picture: Image, view: View, rng: np.random.Generator) -> Image:
        """The delivered RGB image; `rng` makes this shot's exposure, grain and drops."""
        if (view.width, view.height) != self._size:
            picture = cv2.resize(picture, self._size, interpolation=cv2.INTER_AREA)
        if self._conditions.rain:
            picture = self._rain(picture, rng)
        exposure = float(np.clip(rng.normal(1.0, 0.05), 0.85, 1.15)) * (1.25 if self._conditions.night else 1.0)
        gains = self._vignette * (self._white * exposure).astype(np.float32)
        picture = cv2.multiply(picture, gains, dtype=cv2.CV_8U)
        dx, dy = (int(v) for v in rng.integers(0, 64, 2))
        grain = self._grain[dy : dy + self._size[1], dx : dx + self._size[0]]
        return cv2.add(picture, np.ascontiguousarray(grain), dtype=cv2.CV_8U)

    def _rain(self, picture: Image, rng: np.random.Generator) -> Image:
        width, height = self._size
        picture = cv2.GaussianBlur(picture, (0, 0), width / 900)
        grey = cv2.merge([cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)] * 3)
        picture = cv2.addWeighted(picture, 0.72, grey, 0.28, 0)
        streaks = np.zeros((height, width), dtype=np.uint8)
        for x, y, length in zip(
            rng.uniform(0, width, 90), rng.uniform(0, height, 90), rng.uniform(0.01, 0.04, 90), strict=True
        ):
            end = (int(x - 0.15 * length * width), int(y + length * width))
            cv2.line(streaks, (int(x), int(y)), end, (42,), max(1, width // 900))
        picture = cv2.add(picture, cv2.merge([streaks] * 3))
        for _ in range(int(rng.poisson(5))):
            picture = self._drop(picture, rng)
        return picture

    def _drop(self, picture: Image, rng: np.random.Generator) -> Image:
        """A drop on the lens: a round patch that is strongly blurred."""
        width, height = self._size
        radius = int(width * rng.uniform(0.008, 0.03)) + 1
        x, y = int(rng.integers(radius, width - radius)), int(rng.integers(radius, height - radius))
        window = (slice(y - radius, y + radius + 1), slice(x - radius, x + radius + 1))
        patch = picture[window]
        blurred = cv2.GaussianBlur(patch, (0, 0), radius / 2)
        mask = np.zeros(patch.shape[:2], dtype=np.float32)
        cv2.circle(mask, (radius, radius), radius - 1, (0.85,), -1)
        soft = cv2.blur(mask, (3, 3))[..., None]
        out = picture.copy()
        out[window] = np.clip(patch * (1 - soft) + (blurred * 0.9 + 14) * soft, 0, 255).astype(np.uint8)
        return out


def jpeg_bytes(picture: Image, quality: int) -> bytes:
    """Encode an RGB image."""
    _, data = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    encoded: NDArray[np.uint8] = data
    return encoded.tobytes()
