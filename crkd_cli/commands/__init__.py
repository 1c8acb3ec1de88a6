"""One file per command; each imports its stage inside its body, so that ``crkd --help`` stays quick."""
