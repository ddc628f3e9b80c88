"""Fields and perturbations: how parameters change an image (Eq. 1 to 4).

A `bfjax.Field` is a start and a function from parameters to the log field B̂. `bias_field` makes a
`bfjax.Perturbation` of it, which multiplies the image: X_a = X · exp(B̂).

- `polynomial_tps`: the paper's smooth field (Eq. 4), a polynomial of coordinates that a thin-plate
  spline bends; `chunked_polynomial_tps` is the same on large images. `limit_warp` keeps the spline
  from folding.
- `legendre`, `cosine`: smooth fields that are linear in their coefficients, orthonormal on the
  pixels, for images of any size.
- `pixelwise`: a free log field, one value a pixel (Eq. 3).
- `radiographic`: what an X-ray machine can make, by the distance, tilt and anode of its tube and
  by its grid; `LOG_RANGE_TIERS` says how far such fields range.
- `bias_field`: a field as a perturbation, with bounds on |X_a − X| and on |B̂| at each pixel.
- `limit_log_field`, `limit_log_range`, `onto_sampled_bounds`: projections that bound the field
  itself, |B̂| or max B̂ − min B̂, and keep it smooth.
- `additive`: free pixels. `free_log_field`: Eq. 3 for images of any size. `compose`: several
  perturbations, one after the other.
- `exponents`, `polynomial`, `control_grid`, `lattice`, `warp`, `warp_matrix`: the parts of Eq. 4.

Convention:
    An image is (h, w, c), float, in [0, 1]; a log field is (h, w), the same for every channel.
    Coordinates are (x, y), x to the right and y down, both in [-1, 1] from the first to the last
    pixel centre. Coefficients are ordered by t, then l; control points are (x, y) pairs in
    row-major order, y outer and x inner. Clipping passes the full gradient on the closed interval.

A field of your own, here of two lights that fade towards one side, is two functions and, if wanted,
their tables. It is linear in a vector, so it may call itself a `bfjax.LinearField`; projections can
then bound it:

    >>> import jax, jax.numpy as jnp
    >>> import bfjax
    >>> def fading(shape):
    ...     # B̂ = a sin(πx/2) + b sin(πy/2)
    ...     y, x = (jnp.sin(jnp.pi / 2 * jnp.linspace(-1, 1, n)) for n in shape)
    ...
    ...     def log_field(x, y, params):
    ...         return params[0] * x[None, :] + params[1] * y[:, None]
    ...
    ...     field = jax.tree_util.Partial(log_field, x, y)  # tables travel as arguments
    ...     return bfjax.LinearField(init=lambda: jnp.zeros(2), log_field=field)
    >>> field = fading((8, 8))
    >>> field.log_field(field.init().at[0].set(0.5)).shape
    (8, 8)

It goes wherever the paper's goes. At its start nothing is changed:

    >>> perturbation = bfjax.bias_field(field)
    >>> image = jnp.full((8, 8, 1), 0.5)
    >>> bool((perturbation.apply(field.init(), image) == image).all())
    True
    >>> attack = bfjax.Attack(
    ...     perturbation=perturbation,
    ...     loss=bfjax.attack.cross_entropy,
    ...     optimizer=bfjax.attack.steepest("linf", 0.06),
    ...     num_steps=5,
    ...     project=bfjax.field.limit_log_field(field, 0.2),
    ... )
    >>> predict = lambda image: 9 * jnp.stack([image[:4].mean(), image[4:].mean()])
    >>> bfjax.run(attack, predict, image, 0).logits.argmax().item()
    1

References:
    Tian et al., *Bias Field Poses a Threat to DNN-based X-ray Recognition*, ICME 2021.
"""

from bfjax.field.additive import additive, compose, free_log_field
from bfjax.field.bounds import limit_log_field, limit_log_range, onto_sampled_bounds
from bfjax.field.clipping import clip
from bfjax.field.linear import cosine, legendre
from bfjax.field.mirrors import folded_warp, folded_warp_matrix
from bfjax.field.native import chunked_polynomial_tps
from bfjax.field.perturbation import Encoding, Saturation, bias_field, check_image
from bfjax.field.polynomial import Terms, exponents, polynomial
from bfjax.field.polynomial_tps import Border, PolynomialTPSParams, pixelwise, polynomial_tps
from bfjax.field.radiographic import (
    LISTED_RANGES,
    LOG_RANGE_TIERS,
    RadiographicParams,
    radiographic,
)
from bfjax.field.tps import control_grid, lattice, warp, warp_matrix
from bfjax.field.warp_limit import limit_warp

__all__ = [
    "LISTED_RANGES",
    "LOG_RANGE_TIERS",
    "Border",
    "Encoding",
    "PolynomialTPSParams",
    "RadiographicParams",
    "Saturation",
    "Terms",
    "additive",
    "bias_field",
    "check_image",
    "chunked_polynomial_tps",
    "clip",
    "compose",
    "control_grid",
    "cosine",
    "exponents",
    "folded_warp",
    "folded_warp_matrix",
    "free_log_field",
    "lattice",
    "legendre",
    "limit_log_field",
    "limit_log_range",
    "limit_warp",
    "onto_sampled_bounds",
    "pixelwise",
    "polynomial",
    "polynomial_tps",
    "radiographic",
    "warp",
    "warp_matrix",
]
