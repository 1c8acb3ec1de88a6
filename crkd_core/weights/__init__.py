"""Import of published weights: reading checkpoint files, recognising them, renaming their tensors."""
