"""The page of audits and certificates: `bfjax report` of what those commands wrote.

A folder in which they lie comes in, at any depth; one page goes out that ranks audits, shows the
light that turned each image, and what is proven. `loading` finds audits, `ranking` says which of
them can be compared, `cases` brings the images together, `proven` has the certificates, `page`
shows it all. Called by `bfjax.report`.
"""

import lazy_loader

# __init__.pyi says what is here; JAX is imported when it is used, which `--help` does not
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
