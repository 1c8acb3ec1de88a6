#!/usr/bin/env bash
# torch 2.13.0 on a CPU: AdamW(fused=True) pairs restored moments with the wrong weights, without a word.
#
# Expected: a checkpoint of optimiser moments that holds them contiguous (safetensors takes no others), loaded with
# Optimizer.load_state_dict, continues a run to the same weights, whatever the memory layout of the parameter.
# Seen: with a channels-last convolution weight the fused step goes through the memory of weight, gradient and moments
# alike, so that contiguous moments meet other weights: two steps later one is off by more than two learning rates.
# The plain step (fused=False) ends at equal bits. load_state_dict keeps the layout that it is given.
# What follows: lay restored moments out as their parameters (empty_like(parameter).copy_(moment)) before a fused step.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "torch==2.13.0" "safetensors==0.8.0" "numpy==1.26.4"
cd "$folder"

"$folder/venv/bin/python" - <<'PYTHON'
import torch
from safetensors.torch import load_file, save_file

LEARNING_RATE = 0.1


def trained(fused: bool, is_restored: bool, is_laid_out: bool = False) -> torch.Tensor:
    """A convolution weight after three steps, stopped and continued after the first where `is_restored`."""
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(4, 3, 2, 2).to(memory_format=torch.channels_last))
    gradients = torch.randn(3, 4, 3, 2, 2)
    optimizer = torch.optim.AdamW([weight], lr=LEARNING_RATE, fused=fused)
    for step, gradient in enumerate(gradients):
        weight.grad = torch.empty_like(weight).copy_(gradient)
        optimizer.step()
        if step == 0 and is_restored:
            state = optimizer.state_dict()
            moments = {name: tensor.contiguous() for name, tensor in state["state"][0].items()}
            save_file(moments, "moments.safetensors")
            optimizer = torch.optim.AdamW([weight], lr=LEARNING_RATE, fused=fused)
            optimizer.load_state_dict({**state, "state": {0: load_file("moments.safetensors")}})
            for name, tensor in optimizer.state[weight].items():
                if is_laid_out and tensor.shape == weight.shape:
                    optimizer.state[weight][name] = torch.empty_like(weight).copy_(tensor)
    return weight.detach().contiguous()


def difference(fused: bool, is_laid_out: bool = False) -> float:
    return float((trained(fused, True, is_laid_out) - trained(fused, False)).abs().max())


print("torch", torch.__version__.split("+")[0])
plain, fused, laid_out = difference(False), difference(True), difference(True, is_laid_out=True)
print(f"continued less uninterrupted: plain {plain:.3f}, fused {fused:.3f}, fused and laid out {laid_out:.3f}")
if plain != 0 or laid_out != 0:
    raise SystemExit("changed: a continued run is not the uninterrupted one even where layouts agree")
if fused <= LEARNING_RATE:
    raise SystemExit("changed: the fused step takes moments by their index")
PYTHON
