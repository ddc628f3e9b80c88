"""All operators, merged from the modules that hold a table each."""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from bfjax.models.aten import (
    activations,
    arithmetic,
    attention,
    conv,
    creation,
    fourier,
    indexing,
    norms,
    padding,
    products,
    reductions,
    resizing,
    sampling,
    shapes,
    slices,
    sorting,
    subsampling,
)

Table = Mapping[str, Callable[..., Any]]


def _merged(tables: Iterable[Table]) -> dict[str, Callable[..., Any]]:
    tables = list(tables)
    counted = collections.Counter(name for table in tables for name in table)
    twice = sorted(name for name, count in counted.items() if count > 1)
    if twice:
        raise ValueError(f"operators with two translations: {', '.join(twice)}")
    return {name: function for table in tables for name, function in table.items()}


WITH_CHANNELS_LAST = _merged(module.WITH_CHANNELS_LAST for module in (conv, norms, subsampling))
"""Operators whose first argument and result are activations with their channels last."""
OPERATORS = _merged(
    module.OPERATORS
    for module in (
        *(activations, arithmetic, attention, creation, fourier, indexing, norms, padding),
        *(products, reductions, resizing, sampling, shapes, slices, sorting),
    )
)
"""Operators on arrays as PyTorch counts their axes. Others it takes apart into these before a graph
is read (`torch.export.default_decompositions`)."""
ELEMENTWISE = arithmetic.ELEMENTWISE
"""Those of `OPERATORS` that look at no axis."""
WHOLE = frozenset(
    {
        *(*activations.OPERATORS, *attention.OPERATORS, *padding.OPERATORS),
        *(*resizing.OPERATORS, *sampling.OPERATORS),
        *(f"aten.{name}.default" for name in ("col2im", "im2col", "pixel_shuffle", "roll")),
        *(name for name in reductions.OPERATORS if name.startswith("aten.std")),
    }
)
"""What a graph had better keep: PyTorch's decompositions of these lose speed, and gradients too (of
a softplus whose exponential overflows, of a deviation of zero, at a kink)."""
