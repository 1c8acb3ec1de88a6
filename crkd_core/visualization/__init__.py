"""Pictures of what the sensors saw and the detectors found."""
