"""Data sets: one folder per format, and the prepared form that every stage reads."""
