"""What is done to a graph before it runs: PyTorch's numbers, from fewer operators."""

import collections

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bfjax.models import from_torch
from bfjax.models.winograd import Transformed
from tests.models.parity import draw_images, import_torch

torch = import_torch()
from torch import nn  # noqa: E402

from tests.models.aten.small_networks import network, randomize  # noqa: E402


def conv(c_in, c_out, **options):
    return nn.Conv2d(c_in, c_out, 3, padding=1, **options)


class Net(nn.Module):
    def __init__(self, forward, **parts):
        super().__init__()
        self.parts, self.function = nn.ModuleDict(parts), forward

    def forward(self, x):
        return self.function(x, **self.parts).mean((2, 3))


def shared(x, stem, first, second):
    return first(stem(x)) * second(stem(x))


def seen_twice(x, stem, norm):
    y = stem(x)
    return y + norm(y)


NETS = {
    "bias": (lambda x, a, n: n(a(x)), {"a": conv(2, 4), "n": nn.BatchNorm2d(4)}, 0),
    "no bias": (lambda x, a, n: n(a(x)), {"a": conv(2, 4, bias=False), "n": nn.BatchNorm2d(4)}, 0),
    "plain": (
        lambda x, a, n: n(a(x)), {"a": conv(2, 4), "n": nn.BatchNorm2d(4, affine=False)}, 0
    ),
    "groups": (lambda x, a, n: n(a(x)), {"a": conv(2, 4, groups=2), "n": nn.BatchNorm2d(4)}, 0),
    "transposed": (
        lambda x, a, n: n(a(x)),
        {"a": nn.ConvTranspose2d(2, 4, 3, 2, groups=2), "n": nn.BatchNorm2d(4)}, 0,
    ),
    "a weight of two": (
        shared, {"stem": conv(2, 3), "first": nn.BatchNorm2d(3), "second": nn.BatchNorm2d(3)}, 0
    ),
    "one norm of two": (
        lambda x, a, b, n: n(a(x)) - n(b(x)),
        {"a": conv(2, 3), "b": conv(2, 3), "n": nn.BatchNorm2d(3)}, 0,
    ),
    "zeros around": (
        lambda x, z, a, n: n(a(z(x))),
        {
            "z": nn.ConstantPad2d((0, 1, 2, 1), 0.0),
            "a": conv(2, 3, stride=2), "n": nn.BatchNorm2d(3),
        }, 0,
    ),
    "as many zeros": (
        lambda x, z, a, b: a(z(x)) - b(x),
        {"z": nn.ZeroPad2d(1), "a": nn.Conv2d(2, 3, 3), "b": conv(2, 3)}, 0,
    ),
    "seen twice": (seen_twice, {"stem": conv(2, 3), "norm": nn.BatchNorm2d(3)}, 1),
    "before": (lambda x, n, a: a(n(x)), {"n": nn.BatchNorm2d(2), "a": conv(2, 3)}, 1),
    "by the image": (
        lambda x, n, a: torch.conv2d(x, a.weight * x.mean()) * n.weight[:, None, None],
        {"n": nn.BatchNorm2d(3), "a": conv(2, 3)}, 0,
    ),
}  # fmt: skip


def targets(predict):
    return collections.Counter(node.target for node in predict.func.graph.nodes)


@pytest.mark.parametrize(("forward", "parts", "norms"), NETS.values(), ids=NETS)
def test_batch_norms_of_torch_go_into_convolutions_where_that_is_exact(forward, parts, norms):
    module = randomize(Net(forward, **parts))
    image = draw_images(9, 9, 1)
    double = module.double()
    x = torch.from_numpy(np.repeat(image, 2, -1).transpose(2, 0, 1)[None]).double()
    expected = double(x)[0].detach().numpy()
    grey = Net(lambda x, net: net(x.expand(-1, 2, -1, -1))[..., None, None], net=module.float())
    predict = from_torch(grey.eval(), channels=1, image_size=9)
    np.testing.assert_allclose(predict(jnp.asarray(image)), expected, rtol=1e-5, atol=1e-5)
    found = targets(predict)
    assert found["bfjax.affine"] == norms
    assert not found["aten.constant_pad_nd.default"]
    assert not any("batch_norm" in name for name in found)


def test_a_network_of_torch_has_few_operators_and_weights_by_their_names():
    predict = from_torch(network("resnet"), channels=3, image_size=32)
    found = targets(predict)
    assert found["bfjax.convolve"] == 9
    assert found["bfjax.max_pool2d"] == 1
    assert set(found) <= {
        *("bfjax.convolve", "bfjax.max_pool2d", "aten.relu.default", "aten.add.Tensor"),
        *("aten.mean.dim", "aten.view.default", "aten.addmm.default"),
    }
    (weights,) = predict.args
    assert {"stem.0.0.weight", "stem.0.1.bias", "fc.bias"} <= set(weights)
    wide = weights["blocks.0.layers.2.0.weight"]  # 3×3, 64 channels to 64
    assert isinstance(wide, Transformed) == (jax.default_backend() == "cpu")


@pytest.mark.parametrize(("name", "channels"), [("resnet", 3), ("mobilenet", 3)])
def test_activations_of_torch_networks_are_not_transposed(name, channels):
    predict = from_torch(network(name), channels=channels, image_size=32)
    jaxpr = str(jax.make_jaxpr(predict)(jnp.zeros((32, 32, channels))))
    turned = [line for line in jaxpr.splitlines() if "= transpose[" in line and ",1,1]" not in line]
    assert not [line for line in turned if "permutation=(0, 3, 1, 2)" in line]
