"""The attacks by name, each a composition of the pieces in `bfjax.field` and `bfjax.attack`.

- `bias_field`: the paper's, a smooth bias field driven by sign gradients (Eq. 4 to 7); what the
  paper leaves open is an option.
- `bounded_field`: seeks the most that a smooth field can do within a bound on its log-range.
- `fgsm`: one step along the sign of the gradient.
- `bim`: several such steps within a ball.
- `pgd`: the same from a random start.
- `mi_fgsm`: with momentum.
- `di_fgsm`: through random views of the image.
- `ti_mi_fgsm`: with momentum and a smoothed gradient.
- `carlini_wagner_l2`: searches the smallest change in L2.
- `saliency_map`: changes few pixels a lot (JSMA).

Presets:

- `paper(shape)`: the bias field as it reproduces the paper's tables best.
- `fixed()`: the paper's baselines at ε = 0.1, by name.
- `foolbox2()`: the same with the defaults of foolbox 1.8 to 2.4, which search the smallest ε.

The FGSM family works on pixels or, with `domain="log"`, on a free log field (Eq. 3). Every attack
is run in the same way, here on a classifier that compares the image's halves:

    >>> import jax, jax.numpy as jnp
    >>> import bfjax
    >>> from bfjax import attack, attacks
    >>> predict = lambda image: 9 * jnp.stack([image[:4].mean(), image[4:].mean()])
    >>> images, labels = jnp.full((2, 8, 8, 1), 0.5), jnp.zeros(2, int)
    >>> run_batch = bfjax.run_batch  # checks its input and drives the steps from the host
    >>> ours = run_batch(attacks.bias_field((8, 8), degree=4, grid_size=4), predict, images, labels)
    >>> bim = run_batch(attacks.bim(epsilon=0.1), predict, images, labels)
    >>> eq3 = run_batch(attacks.mi_fgsm(domain="log"), predict, images, labels)
    >>> smallest = run_batch(attacks.carlini_wagner_l2(max_steps=20), predict, images, labels)
    >>> [one.adversarial.shape for one in (ours, bim, eq3, smallest)]
    [(2, 8, 8, 1), (2, 8, 8, 1), (2, 8, 8, 1), (2, 8, 8, 1)]

An attack that is random needs a key. Random views (DIM), here four draws a step, and with `decay`
MI-FGSM's momentum make a field that transfers better:

    >>> views = attack.resize_and_pad()
    >>> options = {"degree": 4, "grid_size": 4, "decay": 1.0}
    >>> moved = attacks.bias_field((8, 8), **options, transform=views, num_draws=4)
    >>> moved = run_batch(moved, predict, images, labels, key=jax.random.key(0))
    >>> bool((moved.adversarial[:, :4] < moved.adversarial[:, 4:]).mean() > 0.5)
    True

`bfjax evaluate` takes the same attacks as text, such as `"bim(epsilon=0.2)"`.
"""

from bfjax.attacks.bias import bias_field
from bfjax.attacks.carlini_wagner import CarliniWagner, carlini_wagner_l2
from bfjax.attacks.presets import PAPER, fixed, foolbox2, paper
from bfjax.attacks.saliency_map import SaliencyMap, saliency_map
from bfjax.attacks.sign import bim, di_fgsm, fgsm, mi_fgsm, pgd, ti_mi_fgsm
from bfjax.attacks.within_bound import bounded_field

__all__ = [
    "PAPER",
    "CarliniWagner",
    "SaliencyMap",
    "bias_field",
    "bim",
    "bounded_field",
    "carlini_wagner_l2",
    "di_fgsm",
    "fgsm",
    "fixed",
    "foolbox2",
    "mi_fgsm",
    "paper",
    "pgd",
    "saliency_map",
    "ti_mi_fgsm",
]
