"""bfjax: adversarial bias fields against X-ray classifiers, in functional JAX.

An attack is a perturbation × a loss and penalty × an optax transformation × a projection, written
for one image; `jax.vmap` makes batches. See `bfjax.types` for the contracts, `bfjax.attacks` for
the attacks by name, `run` and `run_batch` to run them.
"""

import lazy_loader

__version__ = "0.1.0"

# __init__.pyi says what is here; each name is imported when first used, JAX with it
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
