"""How a training run judges its epochs: images of other patients, as they are and changed."""

from __future__ import annotations

import functools
from collections.abc import Callable

from bfjax import data
from bfjax.evaluation import Metrics, evaluate_classifier
from bfjax.training.augmentation import Augmentation, augment, resized
from bfjax.types import Image, Predict, PRNGKey

# Other machines and other patients: about twice what training augments by. Fixed, so that the
# scores of differently trained classifiers compare.
_SHIFT = Augmentation(shift=0.1, rotation=15.0, scale=0.25, brightness=0.25, contrast=0.5)


def validate(
    predict: Predict, source: data.Source, *, batch_size: int, size: int, shifted: bool = False
) -> dict[str, Metrics]:
    """The metrics of the images held out, as they are and, where asked for, changed strongly.

    Args:
      predict: the classifier.
      source: the images.
      batch_size: images at once.
      size: side to which they are brought.
      shifted: whether they are also judged after strong changes.

    Returns:
      The metrics by the prefix they have in the log, ``val`` and ``shifted``.

    Raises:
      ValueError: there are no images.
    """
    names = ("val", "shifted") if shifted else ("val",)
    return {
        name: evaluate_classifier(
            predict, source, batch_size=batch_size, transform=_views(size)[name], warn=False
        )
        for name in names
    }


@functools.cache  # equal transforms are the same one, and share a compilation
def _views(size: int) -> dict[str, Callable[[PRNGKey, Image], Image]]:
    return {
        "val": lambda key, image: resized(image, size),
        "shifted": lambda key, image: augment(key, resized(image, size), augmentation=_SHIFT),
    }
