"""A made-up LiDAR sweep."""

import numpy as np


def cloud(azimuths=60, rings=16, seed=0):
    """(P, 6) x, y, z, intensity, ring and time of a LiDAR in a yard, in the order of firing."""
    generator = np.random.default_rng(seed)
    azimuth, ring = (
        part.ravel() for part in np.meshgrid(np.linspace(0.1, 6.2, azimuths), np.arange(rings), indexing="ij")
    )
    elevation = np.radians(-25 + 2 * ring)
    wall = 20 + 10 * np.cos(2 * azimuth)
    reach = np.where(elevation < -0.1, np.minimum(1.8 / np.tan(-np.minimum(elevation, -0.1)), wall), wall)
    reach = reach + generator.normal(0, 0.02, len(reach))
    columns = [reach * np.cos(azimuth), reach * np.sin(azimuth), reach * np.tan(elevation)]
    columns += [np.round(generator.gamma(2, 8, len(ring))), ring, np.linspace(0, 0.05, len(ring))]
    return np.stack(columns, axis=1).astype(np.float32)
