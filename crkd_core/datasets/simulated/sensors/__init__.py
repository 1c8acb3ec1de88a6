"""The simulated rig: what each sensor delivers of a scene."""
