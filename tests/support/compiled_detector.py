"""Compares a tiny detector with itself compiled; prints "equal", or "no compiler: ..." where none works.

A script of its own, because shape checks are enforced within pytest and compilers cannot look through them.
"""

import sys

import torch

from crkd_core.errors import ConfigError
from crkd_core.geometry.sensors import SensorInputs
from crkd_core.models.compiling import check_compiler, compile_dense_parts
from crkd_core.models.detector import Detector, build_detector
from crkd_core.models.outputs import DetectorOutput
from tests.support.described import TASKS
from tests.support.tiny_detector import TINY_DATA, tiny_config, tiny_inputs


def main(backend: str) -> None:
    """Compile all dense parts with a quick backend, or only the fuser with the real, slow one."""
    if backend == "inductor":
        try:
            check_compiler(torch.device("cpu"))
        except ConfigError as error:
            print(f"no compiler: {error}")
            return
    torch.manual_seed(0)
    detector = build_detector(tiny_config(("camera", "radar")), TINY_DATA, TASKS)
    names, inputs = list(detector.state_dict()), tiny_inputs()
    # Training mode on purpose: batch statistics are what a run computes. Running ones do not change its outputs.
    with torch.no_grad():
        expected = detector(inputs)
        if backend == "inductor":
            detector.fuser.compile(dynamic=False)
        else:
            compile_dense_parts(detector, backend)
        output = detector(inputs)
    assert list(detector.state_dict()) == names
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == (5 if backend != "inductor" else 2)
    assert not torch._dynamo.utils.counters["graph_break"]
    torch.testing.assert_close(output.features.fused, expected.features.fused, rtol=1e-4, atol=1e-5)
    for compiled, eager in zip(output.head.tasks, expected.head.tasks, strict=True):
        torch.testing.assert_close(compiled.heatmap_logits, eager.heatmap_logits, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(compiled.regression, eager.regression, rtol=1e-4, atol=1e-5)
    if backend != "inductor":
        compare_training(detector, inputs, expected)
    print("equal")


def compare_training(detector: Detector, inputs: SensorInputs, expected: DetectorOutput) -> None:
    """Box codes at a few cells, which steps of training read, are computed beside the compiled parts."""
    cells = torch.arange(3)
    output = detector(inputs, box_maps=False)
    for compiled, eager in zip(output.head.tasks, expected.head.tasks, strict=True):
        torch.testing.assert_close(compiled.codes_at(cells), eager.codes_at(cells), rtol=1e-4, atol=1e-5)
    sum(task.codes_at(cells).sum() for task in output.head.tasks).backward()
    assert all(parameter.grad.isfinite().all() for parameter in detector.fuser.parameters())


if __name__ == "__main__":
    main(sys.argv[1])
