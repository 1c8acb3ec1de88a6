"""Samples as tensors: a dataset over the prepared tables, augmentation, collation, sampling."""
