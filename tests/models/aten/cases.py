"""Calls of ATen operators, and what PyTorch says to them."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from tests.models.parity import import_torch

X64 = {"int64": "int32", "float64": "float32", "complex128": "complex64"}


@dataclasses.dataclass(frozen=True)
class Case:
    """One call, and how far values and gradients may be off, as a share of the largest.

    Without a slope there is no gradient to compare: PyTorch has none, or one that is NaN.
    """

    name: str
    args: tuple
    kwargs: dict
    within: float
    slope: float | None

    def __str__(self):
        return self.name


def case(name, *args, within=2e-6, slope=5e-6, **kwargs):
    """A call of `aten.name`, an overload that is not named being the default."""
    full = name if "." in name else f"{name}.default"
    if "float16" in {str(x.dtype) for x in _arrays(args)}:
        within, slope = 1e-3, slope and 1e-3
    return Case(f"aten.{full}", args, kwargs, within, slope)


def _arrays(values):
    """The arrays among arguments, those in lists too."""
    for value in values:
        if isinstance(value, list):
            yield from _arrays(value)
        elif isinstance(value, np.ndarray):
            yield value


def draw(*shape, low=-2.0, high=2.0, seed=0):
    """Random numbers, no two of them equal and none at a kink."""
    return np.random.default_rng(seed).uniform(low, high, shape).astype(np.float32)


def whole(*shape, low=-5, high=6, seed=0, dtype=np.int64):
    return np.random.default_rng(seed).integers(low, high, shape).astype(dtype)


def truth(*shape, seed=0):
    return np.random.default_rng(seed).uniform(size=shape) > 0.5


def array(*values, dtype=np.float32):
    return np.array(values, dtype)


def scalar(value, dtype=np.float32):
    return np.array(value, dtype)


def _is_float(x):
    return isinstance(x, np.ndarray) and np.issubdtype(x.dtype, np.floating)


def _convert(value, tensor, dtype):
    """An argument as it is handed to one of the two libraries."""
    if isinstance(value, np.dtype):
        return dtype(value)
    if isinstance(value, list) and list(_arrays(value)):
        return [_convert(v, tensor, dtype) for v in value]
    return tensor(value) if isinstance(value, np.ndarray) else value


def _in_torch(case, *, double):
    """The operator's outputs, and the tensors that a gradient is taken for."""
    torch = import_torch()
    leaves = []

    def dtype(name):
        found = torch.from_numpy(np.zeros(0, name)).dtype
        return torch.float64 if double and found == torch.float32 else found

    def tensor(x):
        made = torch.from_numpy(x.copy()).reshape(x.shape)
        if double and _is_float(x):
            made = made.double().requires_grad_()
            leaves.append(made)
        return made

    name, overload = case.name.removeprefix("aten.").split(".")
    operator = getattr(getattr(torch.ops.aten, name), overload)
    args, kwargs = (_convert_all(part, tensor, dtype) for part in (case.args, case.kwargs))
    return _outputs(operator(*args, **kwargs)), leaves


def _convert_all(part, tensor, dtype):
    if isinstance(part, dict):
        return {name: _convert(value, tensor, dtype) for name, value in part.items()}
    return tuple(_convert(value, tensor, dtype) for value in part)


def _outputs(found):
    return list(found) if isinstance(found, tuple | list) else [found]


def _in_jax(operator, case):
    """The operator as a function of its floating arrays, and these."""
    leaves = []

    def collect(x):
        leaves.append(jnp.asarray(x))

    for part in (case.args, case.kwargs):
        _convert_all(part, lambda x: collect(x) if _is_float(x) else None, lambda dtype: None)

    def function(*values):
        rest = iter(values)

        def tensor(x):
            return next(rest) if _is_float(x) else jnp.asarray(x)

        args, kwargs = (_convert_all(p, tensor, np.dtype) for p in (case.args, case.kwargs))
        return _outputs(operator(*args, **kwargs))

    return function, leaves


def close(found, expected, tolerance):
    expected = np.asarray(expected)
    finite = np.isfinite(expected)
    scale = np.abs(expected[finite]).max(initial=1e-3)
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance * scale)


def check(operator, case, *, values=True):
    """Shapes, types and values are PyTorch's, and so are gradients, in double precision.

    `values=False` where PyTorch does not define them.
    """
    slopes = gradients(case) if case.slope else None
    function, leaves = _in_jax(operator, case)
    if slopes is None:
        _check_outputs(function(*leaves), case, values=values)
        return
    # compiled as one: operation by operation, XLA would take most of the tests' time
    found, outputs = jax.jit(jax.grad(_loss(function), has_aux=True))(leaves)
    _check_outputs(outputs, case, values=values)
    for ours, theirs in zip(found, slopes[1], strict=True):
        close(np.asarray(ours), theirs.numpy(force=True), case.slope)


def _check_outputs(found, case, *, values):
    expected, _ = _in_torch(case, double=False)
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        if ours is None:  # what only a backward pass of PyTorch's needs
            continue
        theirs = theirs.detach().numpy()
        assert ours.shape == theirs.shape
        assert str(ours.dtype) == X64.get(str(theirs.dtype), str(theirs.dtype))
        if values:
            close(np.asarray(ours), theirs, case.within)


def _weighted(torch, outputs):
    """A loss that each floating output enters with weights of its own."""
    loss = 0
    for n, out in enumerate(outputs):
        if out.requires_grad:
            loss = loss + (out * torch.from_numpy(_weights(n, tuple(out.shape)))).sum()
    return loss


@functools.cache
def _weights(n, shape):
    return np.random.default_rng(100 + n).uniform(0.5, 1.5, shape)


def _loss(function):
    def loss(values):
        outputs = function(*values)
        parts = [
            (y * jnp.asarray(_weights(n, y.shape), y.dtype)).sum()
            for n, y in enumerate(outputs)
            if y is not None and jnp.issubdtype(y.dtype, jnp.floating)
        ]
        return sum(parts), outputs

    return loss


def gradients(case):
    """PyTorch's gradients in double precision for each floating tensor; none where it has none."""
    torch = import_torch()
    outputs, leaves = _in_torch(case, double=True)
    loss = _weighted(torch, outputs)
    if not leaves or not torch.is_tensor(loss):
        return None
    found = torch.autograd.grad(loss, leaves, allow_unused=True, create_graph=True)
    return leaves, [
        torch.zeros_like(x) if g is None else g for x, g in zip(leaves, found, strict=True)
    ]


def check_curvature(operator, case):
    """So is the gradient's derivative, along one direction."""
    torch = import_torch()
    leaves, slopes = gradients(case)
    ways = [_weights(50 + n, tuple(x.shape)) for n, x in enumerate(leaves)]
    product = sum((g * torch.from_numpy(way)).sum() for g, way in zip(slopes, ways, strict=True))
    expected = torch.autograd.grad(product, leaves, allow_unused=True)
    function, ours = _in_jax(operator, case)
    ways = [jnp.asarray(way, x.dtype) for way, x in zip(ways, ours, strict=True)]
    # the Hessian is symmetric: one product with it, by forward over reverse mode here
    slope = jax.grad(lambda values: _loss(function)(values)[0])
    found = jax.jit(lambda values: jax.jvp(slope, (values,), (ways,))[1])(ours)
    for a, b in zip(found, expected, strict=True):
        close(
            np.asarray(a), np.zeros(a.shape) if b is None else b.numpy(force=True), 10 * case.slope
        )


def check_jit(operator, case):
    """Compiled, the operator gives the same."""
    function, leaves = _in_jax(operator, case)
    for a, b in zip(jax.jit(function)(*leaves), function(*leaves), strict=True):
        if a is not None:
            assert a.dtype == b.dtype
            close(np.asarray(a), np.asarray(b), case.within)


def without_case(module, cases):
    """The names in a module's table that no case calls."""
    return set(module.OPERATORS) - {case.name for case in cases}


def named(cases, *names):
    """The first case of each of these operators."""
    first = {case.name: case for case in reversed(cases)}
    return [first[f"aten.{name if '.' in name else name + '.default'}"] for name in names]
