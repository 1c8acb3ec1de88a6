"""The simulated world on disk, in the nuScenes format."""
