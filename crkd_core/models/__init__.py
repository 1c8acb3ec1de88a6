"""The detectors: encoders, view transform, fuser, decoder and head; `detector.py` is the architecture figure."""
