"""bfjax: adversarial bias fields against X-ray classifiers, in functional JAX.

An attack is a perturbation × a loss and penalty × an optax transformation × a projection, written
for one image; `jax.vmap` makes batches. See `bfjax.types` for the contracts, `bfjax.attacks` for
the attacks by name, `run` and `run_batch` to run them.
"""

from bfjax import attack, attacks, field
from bfjax.attack import finish, init, run, run_batch, step
from bfjax.field import bias_field, pixelwise, polynomial_tps
from bfjax.types import (
    Attack,
    AttackInfo,
    AttackResult,
    AttackState,
    Field,
    Image,
    Logits,
    Perturbation,
    Predict,
    as_pytree,
)

__version__ = "0.1.0"

__all__ = [
    "Attack",
    "AttackInfo",
    "AttackResult",
    "AttackState",
    "Field",
    "Image",
    "Logits",
    "Perturbation",
    "Predict",
    "as_pytree",
    "attack",
    "attacks",
    "bias_field",
    "field",
    "finish",
    "init",
    "pixelwise",
    "polynomial_tps",
    "run",
    "run_batch",
    "step",
]
