"""Fourier transforms against PyTorch; their gradients are tested in whole programs."""

import numpy as np
import pytest

from bfjax.models.aten import fourier
from tests.models.aten.cases import case, check, draw, without_case

X, PAIRS = draw(2, 4, 6), draw(2, 4, 3, 2)
Z = (draw(2, 4, 6) + 1j * draw(2, 4, 6, seed=1)).astype(np.complex64)
HALF = np.fft.rfft2(X).astype(np.complex64)

CASES = [
    *(case("_fft_r2c", X, dim, norm, onesided, slope=None)
      for dim in ([2], [1, 2], [2, 1]) for norm in (0, 1, 2) for onesided in (True, False)),
    *(case("_fft_c2r", HALF, dim, norm, 6, slope=None)
      for dim in ([2], [1, 2]) for norm in (0, 1, 2)),
    case("_fft_c2r", HALF, [2], 2, 7, slope=None),
    *(case("_fft_c2c", Z, dim, norm, forward, slope=None)
      for dim in ([2], [0, 1]) for norm in (0, 1, 2) for forward in (True, False)),
    case("complex", X, X + 1, slope=None),
    case("view_as_complex", PAIRS, slope=None),
    case("view_as_real", Z),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=str)
def test_is_as_in_torch(case):
    check(fourier.OPERATORS[case.name], case)


def test_no_operator_is_without_a_case():
    assert without_case(fourier, CASES) == {"aten._conj.default"}


def test_a_conjugate_is_as_in_torch():
    """PyTorch's is a flag of the tensor, which NumPy cannot see."""
    assert np.array_equal(fourier.OPERATORS["aten._conj.default"](Z), Z.conj())
