"""What is proven of classifiers under uneven light: `bfjax certify`, on a data set.

`commands` makes a run of options; `runner` certifies the images in parts, each stored when it is
whole; `summary` says what they amount to, and `figure` draws it.
"""

import lazy_loader

# __init__.pyi says what is here; JAX is imported when it is used, which `--help` does not
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
