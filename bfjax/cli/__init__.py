"""The program `bfjax`: which commands there are, how their options are read, and the demo.

A command line comes in, an exit status goes out. Each command is a dataclass of options and a
function of another package, which is imported only when that command is asked for. Nothing but
`python -m bfjax` calls this package.
"""

import lazy_loader

# __init__.pyi says what is here; the demo, and JAX with it, is imported when it is used
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
