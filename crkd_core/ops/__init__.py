"""What models and losses compute with: BEV pooling, voxels, sparse convolution, rotated overlap, suppression."""
