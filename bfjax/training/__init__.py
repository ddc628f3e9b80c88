"""Training classifiers: from a folder of X-rays to a checkpoint that is worth attacking.

Options, or data sources, come in; a checkpoint, its log and its metrics go out. `commands` makes a
`Plan` of options, `loop` runs it, `bfjax.evaluation` scores each epoch. A run that is killed ends
as if it had never stopped. Called by the command line.
"""

import lazy_loader

# __init__.pyi says what is here; JAX is imported when it is used, which `--help` does not
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
