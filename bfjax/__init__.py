"""bfjax: adversarial bias fields against X-ray classifiers, in functional JAX.

An attack is a perturbation × a loss and penalty × an optax transformation × a projection, written
for one image; `jax.vmap` makes batches. See `bfjax.types` for the contracts, `bfjax.attacks` for
the attacks by name, `run` and `run_batch` to run them.
"""

import importlib
from types import ModuleType

from bfjax import attack, attacks, field, metrics
from bfjax.attack import finish, init, run, run_batch, step
from bfjax.field import (
    additive,
    bias_field,
    compose,
    free_log_field,
    pixelwise,
    polynomial_tps,
)
from bfjax.types import (
    Attack,
    AttackFlags,
    AttackInfo,
    AttackResult,
    AttackState,
    Field,
    Image,
    Logits,
    Perturbation,
    Predict,
    Search,
    as_pytree,
)

__version__ = "0.1.0"


def __getattr__(name: str) -> ModuleType:
    """Imports `bfjax.data` and `bfjax.models` when first used: they bring the world with them."""
    if name in ("data", "models"):
        return importlib.import_module(f"bfjax.{name}")
    raise AttributeError(f"module 'bfjax' has no attribute {name!r}")


__all__ = [
    "Attack",
    "AttackFlags",
    "AttackInfo",
    "AttackResult",
    "AttackState",
    "Field",
    "Image",
    "Logits",
    "Perturbation",
    "Predict",
    "Search",
    "additive",
    "as_pytree",
    "attack",
    "attacks",
    "bias_field",
    "compose",
    "data",
    "field",
    "finish",
    "free_log_field",
    "init",
    "metrics",
    "models",
    "pixelwise",
    "polynomial_tps",
    "run",
    "run_batch",
    "step",
]
