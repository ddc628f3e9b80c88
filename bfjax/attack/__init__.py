"""The attack loop and its pieces; `bfjax.attacks` has the attacks that are made of them.

A `bfjax.Attack` ascends loss − penalty (Eq. 5) and holds four replaceable pieces, each a pure
function written for one image:

- perturbation: how parameters change the image. `bfjax.bias_field` of a field, `bfjax.additive`,
  or any pair of `init(image, key)` and `apply(params, image)`.
- loss and penalty: `cross_entropy`, `margin`, `binary_cross_entropy`, `binary_margin`, `targeted`;
  `l1_penalty`; or any function of logits and label, and any function of the parameters.
- optimizer: any optax transformation; `steepest`, `annealed`, `step_halving`, `normalize` and
  `gaussian_smoothing` are ours.
- projection: `image_ball`, `parameter_ball`, those of `bfjax.field`, `in_turn` several of them, or
  any function of parameters and image.

Around them:

- `run` attacks one image; `jax.vmap` of it makes batches. `run_batch` checks a batch and drives the
  steps from the host. `run_stream` attacks any number of images: with `early_stop=True`, those
  already fooled leave the batch and others enter, so that time goes by in proportion to the steps
  taken. `init`, `step` and `finish` are the loop for those who write their own.
- Random views of the image, drawn anew each step (input diversity, expectation over
  transformations): `resize_and_pad`, `random_resize`, `random_window`, `eight_bit`,
  `jpeg_rounding`. `smooth_gradient` smooths what comes back to the image (TI).
- `ensemble`: several classifiers as one. `minimal`, `smallest_step`, `restarts`: searches for the
  smallest ε, and several random starts.

An attack of your own is a composition:

    >>> import jax, jax.numpy as jnp, optax
    >>> import bfjax
    >>> field = bfjax.polynomial_tps((8, 8), degree=2, min_degree=0, grid_size=2)
    >>> def rough(params):
    ...     return 0.01 * jnp.sum(params.coefficients**2)
    >>> own = bfjax.Attack(
    ...     perturbation=bfjax.bias_field(field, max_change=0.1),
    ...     loss=bfjax.attack.margin,
    ...     penalty=rough,
    ...     optimizer=optax.adam(0.03),
    ...     num_steps=10,
    ... )
    >>> predict = lambda image: 9 * jnp.stack([image[:4].mean(), image[4:].mean()])
    >>> images, labels = jnp.full((2, 8, 8, 1), 0.5), jnp.zeros(2, int)
    >>> result = bfjax.run_batch(own, predict, images, labels)
    >>> result.logits.argmax(-1).tolist()
    [1, 1]

The result holds the parameters and a trace of the steps too. Its flags are signs that an attack
failed for reasons of its own, not for the classifier's strength:

    >>> result.trace.loss.shape, result.flags.not_raised.tolist()
    ((2, 10), [False, False])

The loop by hand is the same:

    >>> step = jax.jit(lambda state: bfjax.step(own, predict, images[0], labels[0], state))
    >>> state = bfjax.init(own, images[0])
    >>> for _ in range(own.num_steps):
    ...     state, info = step(state)
    >>> attacked = own.perturbation.apply(state.params, images[0])
    >>> bool(jnp.allclose(attacked, result.adversarial[0], atol=1e-5))
    True
"""

from bfjax.attack.ascent import annealed, step_halving
from bfjax.attack.batch import (
    check_batch,
    run_batch,
    seem_probabilities,
    warn_of_probabilities,
)
from bfjax.attack.diversity import (
    eight_bit,
    ensemble,
    jpeg_rounding,
    random_resize,
    random_window,
    resize_and_pad,
    smooth_gradient,
)
from bfjax.attack.loop import finish, init, is_saturated, run, step
from bfjax.attack.objective import (
    binary_cross_entropy,
    binary_margin,
    check_class,
    cross_entropy,
    is_right,
    is_targeted,
    is_wrong,
    margin,
    of_classes,
    targeted,
)
from bfjax.attack.penalty import Reduction, l1_penalty
from bfjax.attack.projections import image_ball, in_turn, onto_ball, parameter_ball
from bfjax.attack.random_starts import Restarts, restarts
from bfjax.attack.search import minimal, smallest_step
from bfjax.attack.stream import Done, run_stream
from bfjax.attack.transforms import (
    Norm,
    chain,
    gaussian_smoothing,
    norm_of,
    normalize,
    steepest,
    with_hyperparameters,
)
from bfjax.attack.vmapped import logits_of

__all__ = [
    "Done",
    "Norm",
    "Reduction",
    "Restarts",
    "annealed",
    "binary_cross_entropy",
    "binary_margin",
    "chain",
    "check_batch",
    "check_class",
    "cross_entropy",
    "eight_bit",
    "ensemble",
    "finish",
    "gaussian_smoothing",
    "image_ball",
    "in_turn",
    "init",
    "is_right",
    "is_saturated",
    "is_targeted",
    "is_wrong",
    "jpeg_rounding",
    "l1_penalty",
    "logits_of",
    "margin",
    "minimal",
    "norm_of",
    "normalize",
    "of_classes",
    "onto_ball",
    "parameter_ball",
    "random_resize",
    "random_window",
    "resize_and_pad",
    "restarts",
    "run",
    "run_batch",
    "run_stream",
    "seem_probabilities",
    "smallest_step",
    "smooth_gradient",
    "steepest",
    "step",
    "step_halving",
    "targeted",
    "warn_of_probabilities",
    "with_hyperparameters",
]
