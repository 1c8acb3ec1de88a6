"""What several tests share: factories of data sets and models, faults, refusals, kills."""
