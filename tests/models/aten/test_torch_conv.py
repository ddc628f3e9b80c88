"""Convolutions, norms and pools, one at a time against PyTorch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bfjax.models import aten
from bfjax.models.aten import conv, norms, subsampling
from bfjax.models.aten.channels_last import ChannelsLast, plain
from tests.models.aten.cases import case, check, check_jit, close, draw
from tests.models.parity import import_torch

torch = import_torch()
IMAGE, ROWS = draw(2, 6, 9, 8), draw(2, 6, 11)
VECTOR, OTHER, VARIANCE = draw(6, seed=1), draw(6, seed=2), draw(6, low=0.5, high=2, seed=3)
ONE, NONE = [1, 1], [0, 0]


def convolved(x, c_out, taps, *, bias=True, transposed=False, groups=1, **given):
    """A call of ``aten.convolution``, with what is not given as it is most often."""
    c_in, n = x.shape[1], x.ndim - 2
    shape = (c_in, c_out // groups) if transposed else (c_out, c_in // groups)
    numbers = {"stride": 1, "padding": 0, "dilation": 1, "output_padding": 0} | given
    stride, padding, dilation, extra = (
        [v] * n if isinstance(v, int) else v for v in numbers.values()
    )
    return case(
        *("convolution", x, draw(*shape, *taps, seed=4), draw(c_out, seed=5) if bias else None),
        *(stride, padding, dilation, transposed, extra, groups),
    )


# a window that sees nothing above -inf, and whose first place is padding
DARK = np.array([-np.inf, -np.inf, 5, 7], np.float32).reshape(1, 1, 1, 4)
CONVOLUTIONS = [
    convolved(IMAGE, 4, (3, 3), padding=1),
    convolved(IMAGE, 4, (3, 3), stride=2, padding=1, bias=False),
    convolved(IMAGE, 4, (1, 1)),
    convolved(IMAGE, 4, (1, 1), stride=2, bias=False),
    convolved(IMAGE, 4, (1, 1), padding=[1, 0]),
    convolved(IMAGE, 4, (7, 7), stride=2, padding=3),
    convolved(IMAGE, 4, (1, 7), padding=[0, 3]),
    convolved(IMAGE, 4, (3, 2), stride=[2, 1], padding=[1, 2]),
    convolved(IMAGE, 4, (3, 3), dilation=2, padding=2),
    convolved(IMAGE, 4, (3, 3), dilation=[1, 3], stride=[1, 2], padding=[0, 3], bias=False),
    convolved(IMAGE, 4, (4, 4), stride=4),
    convolved(IMAGE, 6, (3, 3), groups=6, padding=1),
    convolved(IMAGE, 6, (5, 3), groups=6, padding=[2, 1], stride=2),
    convolved(IMAGE, 12, (3, 3), groups=6, padding=1, bias=False),
    convolved(IMAGE, 6, (3, 3), groups=6, dilation=2, padding=2),
    convolved(IMAGE, 6, (3, 3), groups=6, stride=[1, 2]),
    convolved(IMAGE, 4, (3, 3), groups=2, padding=1),
    convolved(IMAGE, 9, (3, 3), groups=3, padding=1, stride=2),
    convolved(IMAGE, 4, (2, 3), groups=2, padding=1, dilation=2, stride=[2, 1]),
    convolved(ROWS, 4, (3,), padding=1),
    convolved(ROWS, 6, (3,), groups=6, stride=2, dilation=2),
    convolved(IMAGE, 4, (3, 3), transposed=True, stride=2, padding=1, output_padding=1),
    convolved(IMAGE, 4, (2, 2), transposed=True, stride=2, bias=False),
    convolved(IMAGE, 4, (4, 3), transposed=True, stride=[2, 3], padding=[1, 3],
              output_padding=[0, 2]),
    convolved(IMAGE, 4, (3, 3), transposed=True, dilation=2, padding=[3, 0]),
    convolved(IMAGE, 4, (3, 3), transposed=True, groups=2, stride=2, padding=1),
    convolved(IMAGE, 6, (3, 3), transposed=True, groups=6, stride=2),
    convolved(ROWS, 4, (4,), transposed=True, stride=3, padding=1, output_padding=1),
]  # fmt: skip
RUNNING = (OTHER, VARIANCE)
NORMS = [
    *(case("_native_batch_norm_legit_no_training", x, w, b, *RUNNING, 0.1, 1e-5, slope=None)
      for x in (IMAGE, ROWS, draw(4, 6)) for w, b in ((VECTOR, OTHER), (None, None))),
    *(case("_native_batch_norm_legit.no_stats", x, w, b, True, 0.1, 1e-5, slope=None)
      for x in (IMAGE, ROWS) for w, b in ((VECTOR, OTHER), (None, None))),
    *(case("_native_batch_norm_legit", IMAGE, VECTOR, OTHER, *RUNNING, training, 0.1, 1e-5,
           slope=None) for training in (False, True)),
    *(case("native_group_norm", IMAGE, w, b, 2, 6, 72, groups, 1e-5, slope=None)
      for w, b in ((VECTOR, OTHER), (None, None)) for groups in (1, 2, 6)),
    *(case("native_layer_norm", IMAGE, [8], w, b, 1e-6, slope=None)
      for w, b in ((draw(8), draw(8, seed=1)), (None, None))),
    case("native_layer_norm", IMAGE, [6, 9, 8], draw(6, 9, 8, seed=1), draw(6, 9, 8), 1e-5,
         slope=None),
]  # fmt: skip
POOLS = [
    *(case("avg_pool2d", IMAGE, *given) for given in (
        [[2, 2], [2, 2]], [[3]], [[3, 3], [1, 1], [1, 1]], [[3, 2], [2, 1], [1, 0]],
        [[3, 3], [2, 2], [1, 1], True], [[3, 3], [2, 2], [1, 1], True, False],
        [[3, 3], [2, 2], [1, 1], False, False], [[2, 2], [2, 2], NONE, True],
        [[2, 2], [2, 2], NONE, True, False], [[2, 3], [2, 3], NONE, False, True, 5],
        [[2, 2], [3, 3], NONE, True], [[3, 3], [2, 2], [1, 1], True, True, 7])),
    *(case(name, x, size) for x in (IMAGE, IMAGE[0])
      for name in ("_adaptive_avg_pool2d", "adaptive_avg_pool2d")
      for size in (ONE, [3, 4], [5, 3], [12, 8])),
    *(case("max_pool2d_with_indices", IMAGE, *given) for given in (
        [[3, 3], [2, 2], [1, 1]], [[2]], [[2, 2], [2, 2], [0, 0], [1, 1], True],
        [[3, 3], [2, 2], [0, 0], [1, 1], True], [[3, 3], [3, 3], [1, 1], [1, 1], True],
        [[3, 2], [2, 1], [1, 0]], [[1, 3], [1, 2]], [[3, 3], [1, 1], [1, 1]],
        [[2, 2], [3, 3], [1, 1], [2, 2]], [[3, 3], [2, 2], [1, 1], [2, 3], True])),
    case("max_pool2d_with_indices", DARK, [1, 3], [1, 1], [0, 1], slope=None),
    *(case("adaptive_max_pool2d", x, size) for x in (IMAGE, IMAGE[1]) for size in (ONE, [4, 3])),
    *(case("avg_pool1d", ROWS, *given)
      for given in ([[3]], [[3], [2], [1]], [[2], [2], [0], True], [[3], [2], [1], True, False])),
    *(case(f"adaptive_{pool}_pool1d", x, [3]) for x in (ROWS, ROWS[0]) for pool in ("avg", "max")),
]  # fmt: skip
CASES = [*CONVOLUTIONS, *NORMS, *POOLS]


def run(name, *, last):
    """An operator, given its first argument with channels first or last."""

    def operator(x, *args):
        if last and x.ndim > 2:
            x = ChannelsLast(np.moveaxis(x, 1, -1))
        found = aten.call(name, x, *args)
        return jax.tree.map(plain, found, is_leaf=lambda y: isinstance(y, ChannelsLast))

    return operator


@pytest.mark.parametrize("last", [False, True], ids=["first", "last"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_is_as_in_torch(case, last):
    check(run(case.name, last=last), case)


@pytest.mark.parametrize("case", NORMS, ids=str)
def test_the_input_gradient_of_a_norm_is_that_of_torch(case):
    """Its first result's: PyTorch differentiates neither averages nor all that it saves."""
    x, *rest = case.args
    weights = np.cos(np.arange(x.size)).reshape(x.shape)
    name, overload = case.name.removeprefix("aten.").split(".")
    leaf = torch.from_numpy(x).double().requires_grad_()
    args = [torch.from_numpy(v).double() if isinstance(v, np.ndarray) else v for v in rest]
    y = getattr(getattr(torch.ops.aten, name), overload)(leaf, *args)[0]
    (expected,) = torch.autograd.grad((y * torch.from_numpy(weights)).sum(), leaf)
    operator = run(case.name, last=True)
    rest = [jnp.asarray(v) if isinstance(v, np.ndarray) else v for v in rest]
    loss = lambda v: (operator(v, *rest)[0] * weights.astype(np.float32)).sum()  # noqa: E731
    found = jax.grad(loss)(jnp.asarray(x))
    close(np.asarray(found), expected, 2e-5)


@pytest.mark.parametrize(
    "case", [CONVOLUTIONS[2], CONVOLUTIONS[12], NORMS[9], *POOLS[4:30:8]], ids=str
)
def test_under_jit_is_as_outside_torch(case):
    check_jit(run(case.name, last=True), case)


MAXIMA = [one for one in POOLS if "max_pool2d" in one.name and one.args[0].ndim == 4]


@pytest.mark.parametrize("case", MAXIMA, ids=str)
def test_a_maximum_alone_is_the_first_of_torch_s_two(case):
    target = (
        case.name.replace("aten.", "bfjax.").replace("_with_indices", "").removesuffix(".default")
    )

    def operator(*args):
        return run(target, last=True)(*args), None

    check(operator, case)


def test_no_operator_is_without_a_case_in_torch():
    ours = {name for m in (conv, norms, subsampling) for name in m.WITH_CHANNELS_LAST}
    named = {one.name for one in CASES}
    assert {name for name in ours | set(norms.OPERATORS) if name.startswith("aten.")} == named
