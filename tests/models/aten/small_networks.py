"""Five small networks in PyTorch, of the kinds that classifiers of X-rays are, random weights."""

import functools

import numpy as np

from tests.models.parity import import_torch, redraw

torch = import_torch()
nn = torch.nn
CLASSES = 4


def _conv(c_in, c_out, k, stride=1, groups=1):
    conv = nn.Conv2d(c_in, c_out, k, stride, k // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(c_out))


class Bottleneck(nn.Module):
    def __init__(self, c_in, c, stride):
        super().__init__()
        self.layers = nn.Sequential(
            *(_conv(c_in, c, 1), nn.ReLU(inplace=True), _conv(c, c, 3, stride)),
            *(nn.ReLU(inplace=True), _conv(c, 2 * c, 1)),
        )
        self.shortcut = _conv(c_in, 2 * c, 1, stride)

    def forward(self, x):
        return torch.relu_(self.layers(x) + self.shortcut(x))


class ResNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(_conv(3, 8, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1))
        self.blocks = nn.Sequential(Bottleneck(8, 64, 1), Bottleneck(128, 8, 2))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(16, CLASSES)

    def forward(self, x):
        return self.fc(torch.flatten(self.pool(self.blocks(self.stem(x))), 1))


class DenseNet(nn.Module):
    """Grey images; norms and relus before the convolutions, concatenations."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(_conv(1, 8, 3, 2), nn.ReLU())
        self.layers = nn.ModuleList(
            nn.Sequential(
                *(nn.BatchNorm2d(8 + 4 * i), nn.ReLU(), nn.Conv2d(8 + 4 * i, 8, 1, bias=False)),
                *(nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3, padding=1, bias=False)),
            )
            for i in range(3)
        )
        self.transition = nn.Sequential(
            *(nn.BatchNorm2d(20), nn.ReLU(), nn.Conv2d(20, 10, 1), nn.AvgPool2d(2)),
            *(nn.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False), nn.BatchNorm2d(10)),
        )
        self.fc = nn.Linear(10, CLASSES)

    def forward(self, x):
        found = [self.stem(x)]
        for layer in self.layers:
            found.append(layer(torch.cat(found, 1)))
        return self.fc(torch.relu(self.transition(torch.cat(found, 1))).mean((2, 3)))


class SqueezeExcite(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.layers = nn.Sequential(
            *(nn.AdaptiveAvgPool2d(1), nn.Conv2d(c, 4, 1), nn.SiLU(), nn.Conv2d(4, c, 1)),
        )

    def forward(self, x):
        return x * torch.sigmoid(self.layers(x))


class MobileNet(nn.Module):
    """Depthwise and grouped convolutions, gates, smooth activations."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            *(_conv(3, 8, 3, 2), nn.Hardswish(), _conv(8, 16, 1), nn.SiLU(inplace=True)),
            *(_conv(16, 16, 5, 2, groups=16), nn.SiLU(), SqueezeExcite(16), _conv(16, 8, 1)),
        )
        self.grouped = nn.Sequential(_conv(8, 8, 3, groups=2), nn.Mish(), nn.Dropout(0.5))
        self.fc = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.ELU(), nn.Linear(8, CLASSES))

    def forward(self, x):
        x = self.layers(x)
        return self.fc((x + self.grouped(x)).mean([2, 3]))


class VisionTransformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 8, 8)
        self.token = nn.Parameter(torch.zeros(1, 1, 16))
        self.positions = nn.Parameter(torch.zeros(1, 17, 16))
        self.norms = nn.ModuleList(nn.LayerNorm(16) for _ in range(3))
        self.qkv, self.project = nn.Linear(16, 48), nn.Linear(16, 16)
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16))
        self.fc = nn.Linear(16, CLASSES)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.positions
        n, length, c = x.shape
        q, k, v = self.qkv(self.norms[0](x)).reshape(n, length, 3, 2, c // 2).permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(q, k, v)
        x = x + self.project(mixed.transpose(1, 2).reshape(n, length, c))
        y = self.norms[1](x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        return self.fc((x + self.mlp(self.norms[2](x)))[:, 0])


class UNet(nn.Module):
    """A ConvNeXt's block, norms of groups and instances, transposed convolutions, resizing."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 8, 4, 4), nn.GroupNorm(2, 8))
        self.depthwise = nn.Conv2d(8, 8, 7, padding=3, groups=8)
        self.norm = nn.LayerNorm(8)
        self.mlp = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8))
        self.scale = nn.Parameter(torch.zeros(8))
        self.down = nn.Sequential(
            *(nn.Conv2d(8, 12, 3, 2, 2, dilation=2), nn.InstanceNorm2d(12, affine=True)),
            nn.Softplus(),
        )
        self.up = nn.ConvTranspose2d(12, 8, 3, 2, 1, output_padding=1, groups=2)
        self.fc = nn.Conv2d(16, CLASSES, (3, 5), stride=(2, 3), padding=(1, 2))

    def forward(self, x):
        x = self.stem(x)
        y = self.mlp(self.norm(self.depthwise(x).permute(0, 2, 3, 1)))
        x = x + (self.scale * y).permute(0, 3, 1, 2)
        y = nn.functional.interpolate(self.up(self.down(x)), scale_factor=2, mode="bilinear")
        return self.fc(torch.cat([nn.functional.pad(x, (1, 1)), y[..., ::2, 3:13]], 1)).mean((2, 3))


NETWORKS = {
    "resnet": (ResNet, 3),
    "densenet": (DenseNet, 1),
    "mobilenet": (MobileNet, 3),
    "transformer": (VisionTransformer, 3),
    "unet": (UNet, 1),
}
"""Their classes, and the channels of their images."""
SMOOTH = ("mobilenet", "transformer", "unet")


@functools.cache
def network(name, seed=0):
    """One of them in evaluation mode, all its weights and running averages drawn."""
    return randomize(NETWORKS[name][0](), seed)


def randomize(module, seed=0):
    generator = np.random.default_rng(seed)

    def new(name, tensor):
        if name.endswith("num_batches_tracked"):
            return tensor
        fan_in = max(np.prod(tensor.shape[1:]), 1)
        return torch.from_numpy(redraw(name, tensor.shape, generator, fan_in=fan_in))

    module.load_state_dict({name: new(name, t) for name, t in module.state_dict().items()})
    return module.eval()
