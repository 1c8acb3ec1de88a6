"""The ``crkd`` command: a thin layer that turns arguments into requests and shows progress and results."""
