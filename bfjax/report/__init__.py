"""One web page of what `bfjax attack`, `evaluate` or `audit` wrote, for whoever reads results.

The folder of an attack or of an evaluation comes in, with its maps where there are any, or, for
`standard`, one in which audits lie; a page that needs neither network nor server goes out. It reads
results and makes attacked images again from what they store, but attacks nothing. Called by the
command line.
"""

import lazy_loader

# __init__.pyi says what is here; JAX is imported when it is used, which `--help` does not
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
