"""Names of splits that stages refer to."""

TRAIN = "train"
"""The split that is trained on unless another one is asked for."""
VAL, TEST = "val", "test"
TRAINVAL = "trainval"
"""Train and val together, for a model that goes to the test server."""
