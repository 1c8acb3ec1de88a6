"""Teacher targets on disk: plan, extraction, reading, verification, and which settings they fit."""
