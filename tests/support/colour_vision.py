"""Colours as viewers with and without a colour vision deficiency see them, and how far apart they are."""

import numpy as np
from matplotlib.colors import to_rgb

# Machado, Oliveira and Fernandes, "A physiologically-based model for simulation of color vision deficiency", IEEE TVCG
# 2009, table 1, severity 1.0; applied to linear RGB.
VISIONS = {
    "trichromat": np.eye(3),
    "protanope": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranope": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanope": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}
_XYZ_FROM_RGB = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)


def lab(colours, vision="trichromat"):
    """(N, 3) CIELAB (D65) of colours as such a viewer sees them."""
    linear = np.clip(linear_rgb(colours) @ VISIONS[vision].T, 0, 1)
    relative = linear @ _XYZ_FROM_RGB.T / _XYZ_FROM_RGB.sum(axis=1)
    cube_root = np.where(relative > (6 / 29) ** 3, np.cbrt(relative), relative / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = cube_root.T
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=1)


def linear_rgb(colours):
    """(N, 3) of anything that matplotlib takes for a colour."""
    srgb = np.array([to_rgb(colour) for colour in colours])
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def contrast(first, second):
    """WCAG's ratio of two colours, 1 to 21."""
    luminance = linear_rgb([first, second]) @ _XYZ_FROM_RGB[1]
    return (luminance.max() + 0.05) / (luminance.min() + 0.05)


def distances(colours, others, vision="trichromat"):
    """(N, M) Euclidean distances in CIELAB; 2.3 can just be noticed side by side."""
    return np.linalg.norm(lab(colours, vision)[:, None] - lab(others, vision)[None], axis=-1)
