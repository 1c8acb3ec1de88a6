"""From head maps to detections, result files and scores."""
