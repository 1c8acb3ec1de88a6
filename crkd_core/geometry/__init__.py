"""Boxes, rigid transforms, the BEV grid and the sensor inputs: the vocabulary every other floor speaks."""
