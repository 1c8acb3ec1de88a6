"""Trained models that come with the package: half-precision weights, each with its manifest beside it."""
