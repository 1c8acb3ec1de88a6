"""Mixed precision around the losses: they are small sums over many cells, so they are always computed in float32."""

import torch


def full_precision(device: torch.device) -> torch.autocast:
    """A scope in which matrix products and convolutions keep float32, whatever autocast surrounds it."""
    return torch.autocast(device_type=device.type, enabled=False)
