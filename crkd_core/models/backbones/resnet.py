"""Residual networks: the image backbone and the blocks of the BEV decoder.

State-dict names and the position of the stride (on the 3x3 convolution) are torchvision's, so that its ImageNet
weights load.
"""

from jaxtyping import Float
from torch import Tensor, nn

from crkd_core.config.models import ResNetConfig
from crkd_core.models.backbones.protocol import Backbone


def _conv(in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    conv = nn.Conv2d(in_channels, out_channels, kernel, stride=stride, padding=kernel // 2, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return conv


def _shortcut(in_channels: int, out_channels: int, stride: int) -> nn.Module | None:
    if stride == 1 and in_channels == out_channels:
        return None
    return nn.Sequential(_conv(in_channels, out_channels, 1, stride), nn.BatchNorm2d(out_channels))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut."""

    expansion = 1

    def __init__(self, in_channels: int, width: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = _conv(in_channels, width, 3, stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = _conv(width, width, 3)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = _shortcut(in_channels, width, stride)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c2 h2 w2"]:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.bn1(self.conv1(x)).relu()
        out: Tensor = self.bn2(self.conv2(x)) + shortcut
        return out.relu()


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions and a shortcut; four times as many channels out as inside."""

    expansion = 4

    def __init__(self, in_channels: int, width: int, stride: int = 1) -> None:
        super().__init__()
        out_channels = width * self.expansion
        self.conv1 = _conv(in_channels, width, 1)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = _conv(width, width, 3, stride)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = _conv(width, out_channels, 1)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.downsample = _shortcut(in_channels, out_channels, stride)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c2 h2 w2"]:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.bn1(self.conv1(x)).relu()
        x = self.bn2(self.conv2(x)).relu()
        out: Tensor = self.bn3(self.conv3(x)) + shortcut
        return out.relu()


def residual_stage(
    block: type[BasicBlock] | type[Bottleneck], in_channels: int, width: int, blocks: int, stride: int
) -> nn.Sequential:
    """Blocks of one width; the first carries the stride."""
    first = block(in_channels, width, stride)
    rest = (block(width * block.expansion, width) for _ in range(blocks - 1))
    return nn.Sequential(first, *rest)


class ResNet(Backbone):
    """Image backbone; returns the maps of its four stages at 1/4, 1/8, 1/16 and 1/32 of the input."""

    reductions = (4, 8, 16, 32)

    def __init__(self, config: ResNetConfig) -> None:
        super().__init__()
        block = BasicBlock if config.block == "basic" else Bottleneck
        widths = [config.width * 2**i for i in range(4)]
        self.out_channels = tuple(width * block.expansion for width in widths)
        inputs = (config.width, *self.out_channels[:3])
        self.conv1 = nn.Conv2d(3, config.width, 7, stride=2, padding=3, bias=False)
        nn.init.kaiming_normal_(self.conv1.weight, mode="fan_out", nonlinearity="relu")
        self.bn1 = nn.BatchNorm2d(config.width)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = residual_stage(block, inputs[0], widths[0], config.depths[0], 1)
        self.layer2 = residual_stage(block, inputs[1], widths[1], config.depths[1], 2)
        self.layer3 = residual_stage(block, inputs[2], widths[2], config.depths[2], 2)
        self.layer4 = residual_stage(block, inputs[3], widths[3], config.depths[3], 2)

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> tuple[Tensor, ...]:
        x = self.maxpool(self.bn1(self.conv1(images)).relu())
        stage1 = self.layer1(x)
        stage2 = self.layer2(stage1)
        stage3 = self.layer3(stage2)
        return stage1, stage2, stage3, self.layer4(stage3)
