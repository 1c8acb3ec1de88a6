"""How sure a score is, and what it is made of: bootstrap, slices, paired comparison."""
