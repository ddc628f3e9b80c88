"""How much uneven light classifiers take: `bfjax audit`, the standard test on a data set.

`commands` makes a run of options; `runner` tests the images in parts, each stored when it is whole;
`summary` says what they amount to, `printed` prints it, and `figure` draws it; `finished` opens it
again for a report.
"""

import lazy_loader

# __init__.pyi says what is here; JAX is imported when it is used, which `--help` does not
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
