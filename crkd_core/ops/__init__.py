"""Geometric operations that models and losses share: BEV pooling, voxels, sparse convolution, rotated overlap, suppression."""
