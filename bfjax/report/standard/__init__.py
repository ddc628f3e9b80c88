"""The page of audits: `bfjax report` of what `bfjax audit` wrote, for whoever reads results.

A folder in which audits lie comes in, at any depth; one page goes out that ranks them and shows
the light that turned each image. `loading` finds them, `ranking` says which of them can be
compared, `cases` brings the images together, `page` shows it all. Called by `bfjax.report`.
"""

import lazy_loader

# __init__.pyi says what is here; JAX is imported when it is used, which `--help` does not
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
