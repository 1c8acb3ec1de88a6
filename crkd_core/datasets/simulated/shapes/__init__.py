"""Solid shapes of things in the simulated world."""
