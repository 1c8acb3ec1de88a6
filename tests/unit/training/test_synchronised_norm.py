"""Synchronised batch norms: those of one process with all vectors, whatever each process has of them."""

import pytest
import torch
from torch import nn

from crkd_core.models.layers import PointNorm
from crkd_core.training.distributed import ProcessGroup
from crkd_core.training.synchronised_norm import SynchronisedNorm, synchronise_norms
from tests.support.ranks import on_ranks

KINDS = {
    "points": (PointNorm, (40, 6)),
    "pillars": (PointNorm, (40, 6, 5)),
    "maps": (nn.BatchNorm2d, (40, 6, 3, 4)),
}
SPLITS = (17, 0, 39)
"""Vectors of the first of two processes."""


def apply(net: nn.Module, x: torch.Tensor, weight: torch.Tensor) -> dict[str, torch.Tensor]:
    x = x.clone().requires_grad_()
    for _ in range(2):  # twice, so that momentum counts
        y = net(x)
    (y * weight).sum().backward()
    return {"output": y.detach(), "input gradient": x.grad, **net.state_dict()} | {
        f"gradient {name}": parameter.grad for name, parameter in net.named_parameters()
    }


def example(kind: str, rows: int | None = None) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    make, shape = KINDS[kind]
    torch.manual_seed(1)
    net = nn.Sequential(make(6)).double()
    nn.init.normal_(net[0].weight)
    nn.init.normal_(net[0].bias)
    x, weight = torch.randn(shape).double() * 3 + 100, torch.randn(shape).double()
    return net, x[:rows], weight[:rows]


def on_a_rank(processes: ProcessGroup) -> dict[str, torch.Tensor]:
    results = {}
    for kind in KINDS:
        for first in SPLITS:
            net, x, weight = example(kind)
            synchronise_norms(net, processes)
            own = slice(first) if processes.is_first else slice(first, None)
            values = apply(net, x[own], weight[own])
            results |= {f"{kind} {first} {name}": value for name, value in values.items()}
    net, x, weight = example("points", rows=1)
    synchronise_norms(net, processes)
    own = slice(0, 1) if processes.is_first else slice(1, 1)
    results |= {f"single {name}": value for name, value in apply(net, x[own], weight[own]).items()}
    return results


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    return on_ranks(on_a_rank, tmp_path_factory.mktemp("ranks"))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("first", SPLITS)
def test_two_processes_normalise_like_one(ranks, kind, first):
    check(ranks, f"{kind} {first} ", apply(*example(kind)))


def test_a_single_vector_altogether_is_normalised_by_the_running_statistics(ranks):
    check(ranks, "single ", apply(*example("points", rows=1)))


def check(ranks, prefix: str, expected: dict[str, torch.Tensor]) -> None:
    for name, value in expected.items():
        parts = [rank[prefix + name] for rank in ranks]
        if name in ("output", "input gradient"):
            result = torch.cat(parts)
        elif name.startswith("gradient"):
            result = parts[0] + parts[1]  # DistributedDataParallel adds them up
        else:
            result = parts[0]
            assert parts[1].equal(result), name
        torch.testing.assert_close(result, value, rtol=1e-9, atol=1e-9, msg=name)


def test_on_one_process_nothing_changes():
    net = nn.Sequential(nn.BatchNorm2d(3))
    synchronise_norms(net, ProcessGroup(0, 1, torch.device("cpu")))
    assert not any(isinstance(part, SynchronisedNorm) for part in net.modules())
