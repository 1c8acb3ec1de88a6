"""How to add an image backbone: a small ConvNeXt, written here, outside the package, and then put into a copy of it.

    python examples/add_a_backbone.py

The network (Liu et al., "A ConvNet for the 2020s", CVPR 2022): patches of the image become cells, and blocks of a
depthwise 7x7 convolution, a LayerNorm and a two-layer perceptron work on them; from stage to stage a map has half the
sides. Patches overlap here, so that the sides of maps are rounded up, as the protocol asks for. Four steps, each of
which prints what it found:

1. A **backbone** is a module that says how many channels its maps have and how much smaller than the image they are:
   ``Backbone`` in ``crkd_core/models/backbones/protocol.py``.
2. **In a detector** it takes the place of the configured one: neck, view transform and training step stay as they are.
3. One whose maps the neck cannot read is **refused** before anything is trained.
4. **In the package** the same backbone is three files: its section of the configuration, the module, and a line in
   ``build_backbone``. Command line, workspace and laws take it up from there; the script edits a copy and asks it.
"""

import inspect
import shutil
import subprocess
import sys
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from crkd_core.config.loading import load_config
from crkd_core.config.numbers import Channels, Depth
from crkd_core.config.schema import Config
from crkd_core.config.sections import Section
from crkd_core.errors import ConfigError
from crkd_core.geometry.boxes import Boxes3D
from crkd_core.geometry.sensors import RADAR_FEATURES, CameraRig, SensorInputs
from crkd_core.models.backbones import Backbone
from crkd_core.models.detection_loss import detection_loss
from crkd_core.models.detector import build_detector
from crkd_core.models.head_targets import build_head_targets

ROOT = Path(__file__).resolve().parent.parent
CAMERAS = 2


# 1. The backbone, and the section of the configuration that describes it.


class ConvNeXtConfig(Section):
    """ConvNeXt image backbone; the defaults are a quarter of ConvNeXt-T."""

    kind: Literal["convnext"] = Field("convnext", description="kind of backbone")
    width: Channels = Field(24, le=1024, description="channels of the first stage; each further one has twice as many")
    depths: tuple[Depth, Depth, Depth, Depth] = Field((1, 1, 3, 1), description="blocks of each stage")


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of a map [N, C, H, W]."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ConvNeXtBlock(nn.Module):
    """Depthwise convolution and perceptron in one residual branch."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm = ChannelNorm(width)
        self.mlp = nn.Sequential(nn.Conv2d(width, 4 * width, 1), nn.GELU(), nn.Conv2d(4 * width, width, 1))

    def forward(self, x: Tensor) -> Tensor:
        branch: Tensor = self.mlp(self.norm(self.depthwise(x)))
        return x + branch


class ConvNeXt(Backbone):
    """Image backbone; returns the maps of its four stages at 1/4, 1/8, 1/16 and 1/32 of the input."""

    reductions = (4, 8, 16, 32)

    def __init__(self, config: ConvNeXtConfig) -> None:
        super().__init__()
        self.out_channels = tuple(config.width * 2**stage for stage in range(4))
        stem = nn.Conv2d(3, config.width, 7, stride=4, padding=3)
        merging = [nn.Conv2d(before, width, 3, stride=2, padding=1) for before, width in pairwise(self.out_channels)]
        self.stages = nn.ModuleList(
            nn.Sequential(smaller, ChannelNorm(width), *(ConvNeXtBlock(width) for _ in range(depth)))
            for smaller, width, depth in zip([stem, *merging], self.out_channels, config.depths, strict=True)
        )

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        maps, x = [], images
        for stage in self.stages:
            x = stage(x)  # n width h/reduction w/reduction
            maps.append(x)
        return tuple(maps)


# 2. In a detector.


def random_scene(config: Config) -> tuple[SensorInputs, list[Boxes3D], list[Tensor]]:
    """Two samples of noise with one car each. Real ones come from ``crkd_core.data``."""
    height, width = config.data.image.height_px, config.data.image.width_px
    forward_and_back = torch.eye(4).repeat(2, CAMERAS, 1, 1)
    forward_and_back[:, 0, :3, :3] = torch.tensor([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
    forward_and_back[:, 1, :3, :3] = torch.tensor([[-1.0, 0, 0], [0, 0, -1], [0, -1, 0]])
    intrinsics = torch.tensor([[width / 2, 0.0, width / 2], [0.0, width / 2, height / 2], [0.0, 0.0, 1.0]])
    rig = CameraRig(
        intrinsics.expand(2, CAMERAS, 3, 3), forward_and_back, torch.eye(4).expand(2, CAMERAS, 4, 4).clone()
    )
    radar = torch.rand(2, 60, RADAR_FEATURES)
    radar[..., :3] = (radar[..., :3] - 0.5) * torch.tensor([80.0, 80.0, 4.0])
    sensors = SensorInputs(
        images=torch.randn(2, CAMERAS, 3, height, width),
        rig=rig,
        lidar=None,
        radar=list(radar),
        bev_augmentation=torch.eye(4).repeat(2, 1, 1),
    )
    car = torch.tensor([[6.0, -3.0, -1.0, 1.9, 4.6, 1.7, 0.3, 4.0, 0.5]])
    return sensors, [Boxes3D(car)] * 2, [torch.tensor([0])] * 2


def train(backbone: Backbone, steps: int = 6) -> list[float]:
    """The detection loss of a small student with this backbone, step by step."""
    torch.manual_seed(0)
    config = load_config("tiny")
    grid, tasks = config.data.grid.build(), config.dataset.head_tasks
    detector = build_detector(config.student, config.data, tasks, backbone)
    sensors, boxes, labels = random_scene(config)
    targets = build_head_targets(boxes, labels, grid, config.student.head, tasks)
    optimizer = torch.optim.AdamW(detector.parameters(), lr=2e-3)
    values = []
    for _ in range(steps):
        terms = detection_loss(detector(sensors).head, targets, config.student.head)
        total = torch.stack(list(terms.values())).sum()
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        values.append(float(total.detach()))
    without = [name for name, weight in backbone.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert not without, f"no gradient reached {without}"
    return values


# 3. Refused.


class OneMap(Backbone):
    """A backbone that only has a map at 1/16."""

    out_channels = (8,)
    reductions = (16,)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return (nn.functional.avg_pool2d(images, 16).repeat(1, 3, 1, 1)[:, :8],)


def refusal() -> str:
    """What a detector says to it."""
    config = load_config("tiny")
    try:
        build_detector(config.student, config.data, config.dataset.head_tasks, OneMap())
    except ConfigError as error:
        return str(error)
    raise AssertionError("a backbone that no neck can read was accepted")


# 4. In the package.


def put_into(root: Path) -> list[str]:
    """Make the backbone one of the package's in a copy of the repository; returns the files that this takes."""
    files = [
        "crkd_core/models/backbones/convnext.py",
        "crkd_core/models/backbones/__init__.py",
        "crkd_core/config/models.py",
    ]
    module, build, config = (root / file for file in files)
    imports = """\"\"\"ConvNeXt image backbone.\"\"\"

from itertools import pairwise

from torch import Tensor, nn

from crkd_core.config.models import ConvNeXtConfig
from crkd_core.models.backbones.protocol import Backbone
"""
    parts = [imports, *(inspect.getsource(part) for part in (ChannelNorm, ConvNeXtBlock, ConvNeXt))]
    module.write_text("\n\n".join(parts))

    text = build.read_text()
    text = _after(text, "import BackboneConfig, ", "ConvNeXtConfig, ")
    text = _after(text, "protocol import Backbone\n", "from crkd_core.models.backbones.convnext import ConvNeXt\n")
    branch = "        case ConvNeXtConfig():\n            return ConvNeXt(config)\n"
    build.write_text(_after(text, "    match config:\n", branch))

    text = config.read_text()
    text = _after(text, 'Tag("resnet")] | ', 'Annotated[ConvNeXtConfig, Tag("convnext")] | ')
    section = inspect.getsource(ConvNeXtConfig) + "\n\n"
    config.write_text(text.replace("class TimmConfig(", section + "class TimmConfig("))
    return files


def _after(text: str, mark: str, addition: str) -> str:
    assert text.count(mark) == 1, f"the package has changed: {mark!r} is there {text.count(mark)} times"
    return text.replace(mark, mark + addition)


ASK = """
import torch
from crkd_core.config.loading import load_config
from crkd_core.models.detector import build_detector
from crkd_core.training.initial_weights import backbone_settings

config = load_config("paper-r50", None, ["student.camera.backbone={kind: convnext, width: 96, depths: [3, 3, 9, 3]}"])
with torch.device("meta"):
    detector = build_detector(config.student, config.data, config.dataset.head_tasks)
backbone = detector.camera.backbone
print("--set student.camera.backbone={kind: convnext, ...} builds a", type(backbone).__name__, "of",
      f"{sum(weight.numel() for weight in backbone.parameters()) / 1e6:.1f} M parameters")
print("a run's manifest says", backbone_settings(config.student.camera.backbone))
"""


def in_the_package() -> tuple[list[str], list[str]]:
    """Files that change, and what the changed package answers."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        shutil.copytree(ROOT / "crkd_core", root / "crkd_core", ignore=shutil.ignore_patterns("__pycache__"))
        files = put_into(root)
        answer = subprocess.run([sys.executable, "-c", ASK], cwd=root, capture_output=True, text=True, check=True)
    return files, answer.stdout.splitlines()


def main() -> None:
    backbone = ConvNeXt(ConvNeXtConfig())
    print("a backbone outside the package:")
    for channels, reduction in zip(backbone.out_channels, backbone.reductions, strict=True):
        print(f"  {channels} channels at 1/{reduction} of the image")
    values = train(backbone)
    print(f"in a detector: detection loss {values[0]:.2f} at first, {values[-1]:.2f} after {len(values)} steps")
    print(f"one with a single map is refused: {refusal()}")
    print("the same backbone as one of the package's:")
    files, answers = in_the_package()
    for file in files:
        print(f"  changed: {file}")
    for answer in answers:
        print(f"  {answer}")


if __name__ == "__main__":
    main()
