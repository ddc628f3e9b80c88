"""The four networks in plain PyTorch, their layers named as torchvision and timm name them.

They are the peers of the benchmark and oracles in the tests of our own networks; torchvision has
no MobileNet V1, whose layers are simply numbered.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

# expansion, channels, blocks, stride: Table 2 of the MobileNet V2 paper
STAGES = [
    *((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2)),
    *((6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)),
]
# stride, channels: Table 1 of the MobileNet paper
BLOCKS = [
    *((1, 64), (2, 128), (1, 128), (2, 256), (1, 256), (2, 512)),
    *((1, 512),) * 5,
    *((2, 1024), (1, 1024)),
]


class _Bottleneck(nn.Module):
    def __init__(self, c_in: int, c: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c, 1, bias=False)
        self.conv2 = nn.Conv2d(c, c, 3, stride=stride, padding=1, bias=False)
        self.conv3 = nn.Conv2d(c, 4 * c, 1, bias=False)
        self.bn1, self.bn2 = nn.BatchNorm2d(c), nn.BatchNorm2d(c)
        self.bn3 = nn.BatchNorm2d(4 * c)
        self.downsample = None
        if c_in != 4 * c:
            strided = nn.Conv2d(c_in, 4 * c, 1, stride=stride, bias=False)
            self.downsample = nn.Sequential(strided, nn.BatchNorm2d(4 * c))

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn1(self.conv1(x)).relu()
        y = self.bn2(self.conv2(y)).relu()
        y = self.bn3(self.conv3(y))
        return (y + (x if self.downsample is None else self.downsample(x))).relu()


class ResNet50(nn.Module):
    """ResNet50 with the stride in the 3×3 layers."""

    def __init__(self, num_classes: int):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        c_in = 64
        for i, (blocks, c) in enumerate([(3, 64), (4, 128), (6, 256), (3, 512)], start=1):
            stage = []
            for b in range(blocks):
                stage.append(_Bottleneck(c_in, c, 2 if i > 1 and b == 0 else 1))
                c_in = 4 * c
            setattr(self, f"layer{i}", nn.Sequential(*stage))
        self.fc = nn.Linear(c_in, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Normalised images (n, 3, h, w) to logits."""
        x = self.maxpool(self.bn1(self.conv1(x)).relu())
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(x.mean((2, 3)))


class _DenseLayer(nn.Module):
    def __init__(self, c_in: int):
        super().__init__()
        self.norm1, self.norm2 = nn.BatchNorm2d(c_in), nn.BatchNorm2d(128)
        self.conv1 = nn.Conv2d(c_in, 128, 1, bias=False)
        self.conv2 = nn.Conv2d(128, 32, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(self.norm1(x).relu())
        return torch.cat([x, self.conv2(self.norm2(y).relu())], 1)


class DenseNet121(nn.Module):
    """DenseNet121, growth 32."""

    def __init__(self, num_classes: int):
        super().__init__()
        layers: dict[str, nn.Module] = {
            "conv0": nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False),
            "norm0": nn.BatchNorm2d(64),
            "relu0": nn.ReLU(),
            "pool0": nn.MaxPool2d(3, stride=2, padding=1),
        }
        c = 64
        for i, depth in enumerate((6, 12, 24, 16), start=1):
            block = nn.Sequential()
            for n in range(depth):
                block.add_module(f"denselayer{n + 1}", _DenseLayer(c + 32 * n))
            layers[f"denseblock{i}"] = block
            c += 32 * depth
            if i < 4:
                transition = nn.Sequential()
                transition.add_module("norm", nn.BatchNorm2d(c))
                transition.add_module("relu", nn.ReLU())
                transition.add_module("conv", nn.Conv2d(c, c // 2, 1, bias=False))
                transition.add_module("pool", nn.AvgPool2d(2, stride=2))
                layers[f"transition{i}"] = transition
                c //= 2
        layers["norm5"] = nn.BatchNorm2d(c)
        self.features = nn.Sequential()
        for name, layer in layers.items():
            self.features.add_module(name, layer)
        self.classifier = nn.Linear(c, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Normalised images (n, 3, h, w) to logits."""
        return self.classifier(self.features(x).relu().mean((2, 3)))


def _activated(c_in: int, c_out: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Module:
    convolution = nn.Conv2d(
        c_in, c_out, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=False
    )
    return nn.Sequential(convolution, nn.BatchNorm2d(c_out), nn.ReLU6())


class MobileNetV1(nn.Module):
    """MobileNet V1 with one zero on each side of the strided layers."""

    def __init__(self, num_classes: int):
        super().__init__()
        layers, c_in = [_activated(3, 32, 3, 2)], 32
        for stride, c_out in BLOCKS:
            layers += [_activated(c_in, c_in, 3, stride, groups=c_in), _activated(c_in, c_out, 1)]
            c_in = c_out
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(c_in, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Normalised images (n, 3, h, w) to logits."""
        return self.classifier(self.features(x).mean((2, 3)))


class _Inverted(nn.Module):
    def __init__(self, c_in: int, c_out: int, expansion: int, stride: int):
        super().__init__()
        c = expansion * c_in
        layers = [_activated(c_in, c, 1)] if expansion > 1 else []
        layers.append(_activated(c, c, 3, stride, groups=c))
        project = [nn.Conv2d(c, c_out, 1, bias=False), nn.BatchNorm2d(c_out)]
        self.conv = nn.Sequential(*layers, *project)
        self.residual = stride == 1 and c_in == c_out

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.residual else self.conv(x)


class MobileNetV2(nn.Module):
    """MobileNet V2."""

    def __init__(self, num_classes: int):
        super().__init__()
        layers, c_in = [_activated(3, 32, 3, 2)], 32
        for expansion, c_out, count, stride in STAGES:
            for i in range(count):
                layers.append(_Inverted(c_in, c_out, expansion, 1 if i else stride))
                c_in = c_out
        self.features = nn.Sequential(*layers, _activated(c_in, 1280, 1))
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, num_classes))

    def forward(self, x: Tensor) -> Tensor:
        """Normalised images (n, 3, h, w) to logits."""
        return self.classifier(self.features(x).mean((2, 3)))


NETWORKS: dict[str, type[nn.Module]] = {
    "resnet50": ResNet50,
    "densenet121": DenseNet121,
    "mobilenet_v1": MobileNetV1,
    "mobilenet_v2": MobileNetV2,
}
