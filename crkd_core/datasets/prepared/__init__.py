"""The prepared data set: how it is made, read, checked and described."""
