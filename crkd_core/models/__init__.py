"""The detectors: encoders, view transform, fuser, decoder and head; `detector.py` reads like the architecture figure."""
