"""How to add a loss: attention transfer, written here, outside the package, and then put into a copy of it.

    python examples/add_a_loss.py

The loss (Zagoruyko and Komodakis, "Paying More Attention to Attention", ICLR 2017) compares *where* the fused BEV maps
are active and not what they say, so student and teacher may have different channels:
``A(F) = mean over channels of |F|^p``, ``L = mean over cells of |A(S) / |A(S)| - A(T) / |A(T)||`` (or its square).

Four steps, each of which prints what it found:

1. A **section** holds the settings. A field that changes what is kept of the teacher says so: ``DecidesTarget``.
2. A **term** says which scalars the loss yields, what is kept of the teacher and as which kind of target, and how the
   student is compared with it. Storing, mirroring, joining and checking come with the kind.
3. The **law**: another value of a field changes the teacher's targets if and only if it changes what a manifest holds.
   A mark that is missing would let a run use a cache that was made for something else.
4. **In the package** the same loss is three files: the section, the term, and its place among the others. Command line,
   cache, ablation and tests take it up from there; the script edits a copy and asks it.
"""

import inspect
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from crkd_core.config.distill import DecidesTarget, DistillConfig, LossSection, RelDConfig
from crkd_core.config.numbers import NonNegative, PositiveInt
from crkd_core.distillation.losses import build_terms, stored_kinds
from crkd_core.distillation.objective import DistillationObjective
from crkd_core.distillation.target_kinds import DenseMap, Target
from crkd_core.distillation.targets import TeacherTargets
from crkd_core.distillation.term import LossTerm, targets_of_terms
from crkd_core.geometry.boxes import Boxes3D
from crkd_core.geometry.grid import BEVGrid
from crkd_core.models.outputs import BEVFeatures, DetectorOutput, HeadOutput

ROOT = Path(__file__).resolve().parent.parent
GRID = BEVGrid((-24.0, 24.0), (-24.0, 24.0), (-5.0, 3.0), 1.5)


# 1. The section.


class AttentionConfig(LossSection):
    """Attention transfer (Zagoruyko and Komodakis, ICLR 2017)."""

    weight: NonNegative = Field(100.0, description="weight in the total")
    power: Annotated[PositiveInt, DecidesTarget] = Field(2, description="exponent of the activations")
    distance: Literal["l1", "l2"] = Field("l1", description="absolute or squared difference in each cell")


# 2. The term.


def attention(bev_map: Tensor, power: int) -> Tensor:
    """Where a map [B, C, X, Y] is active: [B, X, Y] of length 1 in each sample."""
    activity = bev_map.float().abs().pow(power).mean(dim=1)
    return activity / torch.linalg.vector_norm(activity, dim=(1, 2), keepdim=True).clamp(min=1e-6)


class Attention(LossTerm[AttentionConfig]):
    """The loss between the places at which the fused maps are active; see the module."""

    name = "attention"
    kinds: ClassVar[Mapping[str, type[Target]]] = {"attention.map": DenseMap}

    def weights(self) -> dict[str, float]:
        return {"attention": self.section.weight}

    def targets(self, teacher: DetectorOutput, boxes: Sequence[Boxes3D], grid: BEVGrid) -> dict[str, Target]:
        return {"attention.map": DenseMap(attention(teacher.features.fused.detach(), self.section.power))}

    def compare(self, scalar: str, student: DetectorOutput, targets: TeacherTargets) -> Tensor:
        taught = targets.part("attention.map", DenseMap, scalar).values
        difference = attention(student.features.fused, self.section.power) - taught
        return (difference.abs() if self.section.distance == "l1" else difference.square()).mean()


class SmallDetector(nn.Module):
    """Stands for a detector: a fused map from random 'sensors'. The real ones are in ``crkd_core/models``."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fuser = nn.Sequential(nn.Conv2d(6, channels, 3, padding=1), nn.ReLU())

    def forward(self, sensors: Tensor) -> DetectorOutput:
        return DetectorOutput(BEVFeatures(None, None, None, None, self.fuser(sensors), None), HeadOutput(()))


def train(steps: int = 80) -> list[float]:
    """The loss beside one of the package's, through the cache: what a distillation step does. Returns its values."""
    torch.manual_seed(0)
    teacher, student = SmallDetector(24).requires_grad_(False), SmallDetector(16)
    sensors = torch.randn(4, 6, *GRID.shape)
    no_boxes = [Boxes3D.empty() for _ in sensors]

    config = DistillConfig(losses=("reld",), reld=RelDConfig(scales=(8, 4), adapter=False))
    terms = (*build_terms(config), Attention(AttentionConfig()))
    kinds = stored_kinds() | dict(Attention.kinds)

    live = targets_of_terms(terms, teacher(sensors), no_boxes, GRID)
    stored = [sample.encode("fp16") for sample in live.split()]
    print(f"  kept of a sample: {', '.join(f'{name} {list(value.shape)}' for name, value in stored[0].items())}")
    targets = TeacherTargets.join([TeacherTargets.decode(tensors, kinds) for tensors in stored])
    print(f"  stored against live: {targets.deviations(live)['map']:.1e}, relative")

    objective = DistillationObjective(terms, GRID)
    optimizer = torch.optim.Adam(student.parameters(), lr=0.01)
    values = []
    for step in range(steps):
        # Every other step sees the mirrored scene, and the targets mirrored with it.
        axes = (step % 2 == 1, False)
        seen = sensors.flip(2) if axes[0] else sensors
        losses = objective(student(seen), targets.mirrored(axes))
        optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()
        values.append(float(losses["attention"].detach()))
    return values


# 3. The law.


def law(others: Mapping[str, object]) -> dict[str, bool]:
    """Which fields decide the targets, by trying another value of each.

    Raises:
        AssertionError: a field changes the targets and not the settings that a manifest holds, or the other way round.
    """
    torch.manual_seed(1)
    output, no_boxes = SmallDetector(8)(torch.randn(2, 6, *GRID.shape)), [Boxes3D.empty()] * 2
    plain = Attention(AttentionConfig())
    targets, decides = targets_of_terms([plain], output, no_boxes, GRID), {}
    for field in AttentionConfig.model_fields:
        changed = Attention(AttentionConfig(**{field: others[field]}))
        deviation = targets_of_terms([changed], output, no_boxes, GRID).deviations(targets)["map"]
        in_manifest = changed.target_settings() != plain.target_settings()
        assert (deviation > 0) == in_manifest, f"{field} breaks the law"
        decides[field] = in_manifest
    return decides


# 4. In the package.


def put_into(root: Path) -> list[str]:
    """Make the loss one of the package's in a copy of the repository; returns the files that this takes."""
    files = ["crkd_core/distillation/attention.py", "crkd_core/distillation/losses.py", "crkd_core/config/distill.py"]
    term, losses, config = (root / file for file in files)
    own = Path(__file__).read_text()
    imports = own[own.index("from collections.abc import") : own.index("ROOT =")]
    needed = "Mapping|ClassVar|import torch|torch import|target_kinds|targets import|term import|geometry|outputs"
    lines = [line for line in imports.splitlines() if re.search(needed, line)]
    lines.append("from crkd_core.config.distill import AttentionConfig")
    body = [inspect.getsource(attention), inspect.getsource(Attention)]
    term.write_text('"""Attention transfer."""\n\n' + "\n".join(lines) + "\n\n\n" + "\n\n".join(body))

    text = losses.read_text()
    first = "from crkd_core.distillation.csrd import"
    text = text.replace(first, f"from crkd_core.distillation.attention import Attention\n{first}")
    losses.write_text(text.replace("RelD, RespD)", "RelD, RespD, Attention)"))

    text = config.read_text()
    text = text.replace('"reld", "respd"]', '"reld", "respd", "attention"]')
    text = text.replace("class TargetsConfig(", inspect.getsource(AttentionConfig) + "\n\nclass TargetsConfig(")
    field = (
        '    attention: AttentionConfig = Field(default_factory=AttentionConfig, description="attention transfer")\n'
    )
    config.write_text(text.replace("    targets: TargetsConfig", field + "    targets: TargetsConfig"))
    return files


ASK = """
from typer.testing import CliRunner
from crkd_cli.app import app
from crkd_core.config.loading import load_config
from crkd_core.distillation.losses import LOSSES, stored_kinds, target_settings
from crkd_core.stages.ablate.rows import COMPARISONS

config = load_config("tiny", None, ["distill.attention.power=3"])
help_text = " ".join(CliRunner(env={"COLUMNS": "200"}).invoke(app, ["distill", "--help"]).output.split())
print("command line: ", help_text[help_text.index("(csrd"):].partition(")")[0] + ")")
print("cache key:    ", target_settings(config.distill)["attention"])
print("cache holds:  ", ", ".join(stored_kinds()))
print("ablation:     ", COMPARISONS["ladder"][-1].title)
"""


def in_the_package() -> tuple[list[str], list[str]]:
    """Files that change, and what the changed package answers."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for package in ("crkd_core", "crkd_cli"):
            shutil.copytree(ROOT / package, root / package, ignore=shutil.ignore_patterns("__pycache__"))
        files = put_into(root)
        answer = subprocess.run([sys.executable, "-c", ASK], cwd=root, capture_output=True, text=True, check=True)
    return files, answer.stdout.splitlines()


def main() -> None:
    print("a loss outside the package, beside one of its own:")
    values = train()
    print(f"  attention: {values[0]:.3f} at first, {values[-1]:.3f} after {len(values)} steps")
    print("which fields decide the teacher's targets, and are therefore part of the cache's key:")
    for field, decides in law({"weight": 1.0, "power": 3, "distance": "l2"}).items():
        print(f"  {field}: {'yes' if decides else 'no'}")
    print("the same loss as one of the package's:")
    files, answers = in_the_package()
    for file in files:
        print(f"  changed: {file}")
    for answer in answers:
        print(f"  {answer}")


if __name__ == "__main__":
    main()
