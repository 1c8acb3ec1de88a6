"""BEV pooling: `embedding_bag` against the materialised lifted tensor, at the sizes of a preset's teacher and student.

Both sum every image feature, weighted by its depth probabilities, into the BEV cells of one sample of six cameras. The
materialised form makes the lifted tensor (cameras x depths x height x width x channels) first and scatters it.
Times are medians over repeats; memory is the peak of a process of its own above what it had before.

    python examples/benchmarks/bev_pooling.py [--preset paper-r50] [--repeats 3]
"""

import argparse

import torch
from measuring import median_seconds, peak_mb, report, run_case, show
from sensors import surround_rig

from crkd_core.config.loading import load_config
from crkd_core.models.view_transform import ViewTransform
from crkd_core.ops.bev_pool import bev_pool, bev_pool_reference

POOLINGS = {"embedding_bag": bev_pool, "materialised": bev_pool_reference}
FEATURE_STRIDE = 8


def measure(role: str, pooling: str, preset: str, repeats: int) -> dict[str, float]:
    """Forward and backward seconds and memory (MB) of one pooling at the size of one detector."""
    config = load_config(preset)
    image, view = config.data.image, getattr(config, role).camera.view_transform
    size_px = (image.height_px, image.width_px)
    feature_size = (image.height_px // FEATURE_STRIDE, image.width_px // FEATURE_STRIDE)
    # The kind decides how depth is predicted and does not matter here.
    transform = ViewTransform(
        8, view.model_copy(update={"kind": "lss"}), config.data.grid.build(), size_px, feature_size
    )
    cells = transform.cells(surround_rig(config.data), torch.eye(4)[None])[0]
    torch.manual_seed(0)
    features = torch.randn(len(cells), view.channels, *feature_size, requires_grad=True)
    probability = torch.randn(cells.shape).softmax(dim=1).requires_grad_()
    nx, ny = transform.pool_grid.shape
    gradient = torch.randn(nx * ny, view.channels)
    before = peak_mb()

    def forward() -> torch.Tensor:
        return POOLINGS[pooling](features, probability, cells, nx * ny)

    def both() -> None:
        torch.autograd.grad(forward(), (features, probability), gradient)

    with torch.no_grad():
        forward_s = median_seconds(forward, repeats)
    return {
        "forward": forward_s,
        "backward": median_seconds(both, repeats) - forward_s,
        "memory": peak_mb() - before,
        "points": float((cells >= 0).sum()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="paper-r50", help="configuration whose sizes are taken")
    parser.add_argument("--detectors", nargs="+", choices=("teacher", "student"), default=("teacher", "student"))
    parser.add_argument("--repeats", type=int, default=3, help="timed calls, after one that is not counted")
    parser.add_argument("--case", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        role, pooling = options.case
        report(measure(role, pooling, options.preset, options.repeats))
        return
    arguments = ["--preset", options.preset, "--repeats", str(options.repeats)]
    rows = []
    for role in options.detectors:
        runs = {name: run_case(__file__, (role, name), arguments) for name in POOLINGS}
        for name, values in runs.items():
            rows.append([f"{role}, {name}", *(f"{values[part]:.3f}" for part in ("forward", "backward"))])
            rows[-1] += [f"{values['memory']:.0f}", f"{values['points'] / 1e6:.2f}"]
        ratios = [
            runs["materialised"][part] / runs["embedding_bag"][part] for part in ("forward", "backward", "memory")
        ]
        rows.append([f"{role}, ratio", *(f"{ratio:.1f}x" for ratio in ratios), ""])
    columns = ["pooling", "forward (s)", "backward (s)", "memory (MB)", "points (M)"]
    show(f"BEV pooling of one sample, {options.preset}, {torch.get_num_threads()} threads", columns, rows)


if __name__ == "__main__":
    main()
