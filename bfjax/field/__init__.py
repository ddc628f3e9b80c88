"""Fields and perturbations: how parameters change an image (Eq. 1 to 4).

A `bfjax.Field` is a start and a function from parameters to the log field B̂. `bias_field` makes a
`bfjax.Perturbation` of it, which multiplies the image: X_a = X · exp(B̂).

- `polynomial_tps`: the paper's smooth field (Eq. 4), a polynomial of coordinates that a thin-plate
  spline bends; `chunked_polynomial_tps` is the same on large images.
- `pixelwise`: a free log field, one value a pixel (Eq. 3).
- `bias_field`: a field as a perturbation, with bounds on |X_a − X| and on |B̂|; `limit_log_field`
  holds the latter by scaling.
- `additive`: free pixels. `free_log_field`: Eq. 3 for images of any size. `compose`: several
  perturbations, one after the other.
- `exponents`, `polynomial`, `control_grid`, `lattice`, `warp`, `warp_matrix`: the parts of Eq. 4.

Convention:
    An image is (h, w, c), float, in [0, 1]; a log field is (h, w), the same for every channel.
    Coordinates are (x, y), x to the right and y down, both in [-1, 1] from the first to the last
    pixel centre. Coefficients are ordered by t, then l; control points are (x, y) pairs in
    row-major order, y outer and x inner. Clipping passes the full gradient on the closed interval.

A field of your own, here in a Legendre basis, is two functions and, if wanted, their tables:

    >>> import jax, jax.numpy as jnp, numpy as np
    >>> import bfjax
    >>> def legendre(shape, degree=4):
    ...     # B̂ = Σ c_ij P_i(x) P_j(y) over i + j ≤ degree
    ...     y, x = (np.polynomial.legendre.legvander(np.linspace(-1, 1, n), degree) for n in shape)
    ...     i, j = np.array([(i, j) for i in range(degree + 1) for j in range(degree + 1 - i)]).T
    ...     rows, columns = jnp.float32(y[:, j]), jnp.float32(x[:, i])
    ...
    ...     def log_field(rows, columns, coefficients):
    ...         return jnp.einsum("hn,wn,n->hw", rows, columns, coefficients)
    ...
    ...     field = jax.tree_util.Partial(log_field, rows, columns)  # tables travel as arguments
    ...     return bfjax.Field(init=lambda: jnp.zeros(len(i)), log_field=field)
    >>> field = legendre((8, 8))
    >>> field.log_field(field.init().at[0].set(0.5)).shape
    (8, 8)

It goes wherever the paper's goes. At its start nothing is changed:

    >>> perturbation = bfjax.bias_field(field, max_change=0.1)
    >>> image = jnp.full((8, 8, 1), 0.5)
    >>> bool((perturbation.apply(field.init(), image) == image).all())
    True
    >>> attack = bfjax.Attack(
    ...     perturbation=perturbation,
    ...     loss=bfjax.attack.cross_entropy,
    ...     optimizer=bfjax.attack.steepest("linf", 0.06),
    ...     num_steps=5,
    ... )
    >>> predict = lambda image: 9 * jnp.stack([image[:4].mean(), image[4:].mean()])
    >>> bfjax.run(attack, predict, image, 0).logits.argmax().item()
    1

References:
    Tian et al., *Bias Field Poses a Threat to DNN-based X-ray Recognition*, ICME 2021.
"""

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
