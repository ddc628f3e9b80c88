"""Smooth bias fields: the polynomial, the thin-plate spline, and how they change an image."""

from bfjax.field.additive import additive, compose, free_log_field
from bfjax.field.mirrors import folded_warp, folded_warp_matrix
from bfjax.field.native import chunked_polynomial_tps
from bfjax.field.perturbation import bias_field, check_image, clip, limit_log_field
from bfjax.field.polynomial import Terms, exponents, polynomial
from bfjax.field.polynomial_tps import PolynomialTPSParams, pixelwise, polynomial_tps
from bfjax.field.tps import control_grid, lattice, warp, warp_matrix

__all__ = [
    "PolynomialTPSParams",
    "Terms",
    "additive",
    "bias_field",
    "check_image",
    "chunked_polynomial_tps",
    "clip",
    "compose",
    "control_grid",
    "exponents",
    "folded_warp",
    "folded_warp_matrix",
    "free_log_field",
    "lattice",
    "limit_log_field",
    "pixelwise",
    "polynomial",
    "polynomial_tps",
    "warp",
    "warp_matrix",
]
