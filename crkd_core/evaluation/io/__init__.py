"""Detections and results files, read and written."""
