#!/usr/bin/env bash
# torch 2.13.0, CPU, one thread: batch norm in training measures a map's spread four digits worse with channels last.
#
# Expected: the memory layout of a map changes speed, and results by rounding: about 1e-7 of the mean and deviation.
# Seen: on 12 maps of 8 channels and 64 x 192 cells the inverse standard deviation of channels-last input is off by 9e-4
# (relative, against float64), that of contiguous input by 5e-8; and it grows with the number of cells. Channels last adds
# up a channel's values one by one in float32.
# What follows: channels last, the usual advice for faster convolutions on CPUs, moves losses and gradients of detectors whose
# maps are large; where results have to be comparable, norms in training get contiguous maps, or float64 sums.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/environment"
"$folder/environment/bin/pip" install --quiet --disable-pip-version-check "torch==2.13.0" "numpy==2.2.6"
cd "$folder"

"$folder/environment/bin/python" - <<'PYTHON'
import torch

torch.set_num_threads(1)


def error(height, width, layout):
    """Relative error of the inverse deviation that batch norm saves for its backward pass."""
    generator = torch.Generator().manual_seed(0)
    # What a convolution of a mostly empty image gives: many equal values, an offset, and few large ones.
    maps = torch.relu(torch.randn(12, 8, height, width, generator=generator) - 1.0) + 0.5
    exact = (maps.double().var(dim=(0, 2, 3), unbiased=False) + 1e-5).rsqrt()
    maps = maps.contiguous(memory_format=layout)
    _, _, inverse = torch.native_batch_norm(maps, None, None, None, None, True, 0.1, 1e-5)
    return float(((inverse.double() - exact).abs() / exact).max())


seen = {}
for height, width in ((16, 48), (64, 192), (256, 704)):
    for name, layout in (("contiguous", torch.contiguous_format), ("channels last", torch.channels_last)):
        seen[name, height] = error(height, width, layout)
        print(f"12 x 8 x {height} x {width}, {name}: {seen[name, height]:.1e}")
assert seen["contiguous", 256] < 1e-6
assert seen["channels last", 64] > 20 * seen["contiguous", 64], "changed: channels last is as exact"
assert seen["channels last", 256] > seen["channels last", 16], "changed: the error does not grow"
PYTHON
