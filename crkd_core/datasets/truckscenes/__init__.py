"""The TruckScenes format: what differs from nuScenes."""
