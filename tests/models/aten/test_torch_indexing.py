"""Reading and writing at places against PyTorch."""

import jax.numpy as jnp
import numpy as np
import pytest

from bfjax.models.aten import indexing
from tests.models.aten.cases import (
    array,
    case,
    check,
    check_jit,
    draw,
    named,
    scalar,
    truth,
    whole,
    without_case,
)

X, COUNTS, MASK = draw(2, 3, 4), whole(2, 3, 4), truth(2, 3, 4)
SRC, PART = draw(2, 3, 4, seed=1), draw(2, 2, 4, seed=1)
TABLE = draw(5, 4)


def at(*places, **options):
    return array(*places, dtype=options.get("dtype", np.int64))


ROWS = at([0, 2, 1], [2, 2, 0])
# places (2, 2, 4) along axis 1, none of them twice, and with some of them twice
ONCE = (
    np.stack([np.random.default_rng(n).permutation(3)[:2] for n in range(8)], 1)
    .reshape(2, 2, 4)
    .swapaxes(0, 1)
    .copy()
)
TWICE = whole(2, 2, 4, low=0, high=3)

CASES = [
    *(case("index_select", X, dim, at(1, 0, 1)) for dim in (0, -1)),
    case("index_select", scalar(2.0), 0, at(0)),
    *(case("index.Tensor", X, indices) for indices in (
        [at(1, 0)], [None, at(0, 2)], [None, None, at([3, -1], [0, 0])], [at(0, 1), at(2, 0)],
        [at([0], [1]), at(2, 0)], [at(0, 1), None, at(3, 2)], [None, at([0], [1]), at(1, -2)],
        [at(1, 0, dtype=np.int32)],
    )),
    case("index.Tensor", COUNTS, [None, at(1)]),
    *(case("index_put", X, indices, values, add) for add in (False, True)
      for indices, values in (([at(1)], draw(1, 3, 4)), ([None, at(0, 2)], draw(2, 2, 4)),
                              ([at(0, 1), at(2, 0)], draw(4)),
                              ([at(0, 1), None, at(3, 2)], scalar(2.0)))),
    case("index_put", X, [at(1, 1), at(2, 2)], draw(2, 4), True),
    *(case("index_put", X, [mask], scalar(0.5), add) for mask in (MASK, truth(2, 3), truth(2))
      for add in (False, True)),
    case("index_put", COUNTS, [MASK], scalar(7, np.int64)),
    *(case("gather", X, dim, index)
      for dim, index in ((1, TWICE), (-1, ROWS[:, :, None]), (0, TWICE[:1] // 2))),
    case("gather", scalar(2.0), 0, scalar(0, np.int64)),
    case("scatter.src", X, 1, ONCE, PART),
    case("scatter.src", X, 1, ONCE, SRC, slope=None),
    case("scatter.src", COUNTS, 1, ONCE, whole(2, 3, 4, seed=1)),
    case("scatter.value", X, 1, TWICE, 1.5),
    *(case("scatter.reduce", X, 1, TWICE, SRC, reduce=r, slope=None) for r in ("add", "multiply")),
    *(case("scatter.value_reduce", X, 1, TWICE, 1.5, reduce=r, slope=None)
      for r in ("add", "multiply")),
    case("scatter_add", X, 1, TWICE, PART),
    case("scatter_add", X, 1, TWICE, SRC, slope=None),
    case("scatter_add", COUNTS, -2, TWICE, COUNTS),
    *(case("scatter_reduce.two", X, 1, TWICE, PART, r, include_self=own)
      for r in ("sum", "prod", "mean", "amax", "amin") for own in (True, False)),
    *(case("scatter_reduce.two", COUNTS, 1, TWICE, COUNTS, r, include_self=own)
      for r in ("sum", "amax", "mean") for own in (True, False)),
    *(case("embedding", TABLE, index, *args) for index in (ROWS, at(1), scalar(2, np.int64))
      for args in ((), (2,))),
    case("masked_scatter", X, MASK, draw(24, seed=1)),
    case("masked_scatter", X, truth(3, 1), draw(30, seed=1)),
    *(case("searchsorted.Tensor", np.sort(X), X[:, :, :2].copy(), right=right)
      for right in (False, True)),
    case("searchsorted.Tensor", array(0, 1, 2), X, side="right"),
    case("searchsorted.Tensor", array(2, 0, 1), X, sorter=at(1, 2, 0)),
    case("searchsorted.Scalar", array(0, 1, 2), 1),
    *(case("bucketize.Tensor", array(-1, 0, 0.5, 1, 3), array(0, 1, 2), right=right)
      for right in (False, True)),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=str)
def test_is_as_in_torch(case):
    check(indexing.OPERATORS[case.name], case)


@pytest.mark.parametrize("case", named(CASES, "index.Tensor", "scatter_reduce.two"), ids=str)
def test_under_jit_is_as_outside_torch(case):
    check_jit(indexing.OPERATORS[case.name], case)


def test_no_operator_is_without_a_case():
    assert without_case(indexing, CASES) == set()


@pytest.mark.parametrize("name", ["index.Tensor", "index_put.default"])
def test_a_mask_as_an_index_is_refused(name):
    values = () if name == "index.Tensor" else (jnp.ones(3),)
    with pytest.raises(ValueError, match=r"a mask of shape \(2, 3, 4\).* depends on the data"):
        indexing.OPERATORS[f"aten.{name}"](jnp.asarray(X), [jnp.asarray(MASK)], *values)
