"""Stage ``ablate``: students that differ in one thing, over seeds, as one table."""
