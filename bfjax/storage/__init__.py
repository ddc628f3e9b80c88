"""What bfjax keeps on a disk: whole files, shards of records, saved states; where, and of when.

Arrays, tables and JSON come in; files that are either whole or absent go out, and come back as what
they were, or are refused by name. Nothing is pickled. `environment` says when, on what and with
which versions a result was computed, `home` where downloads lie. Whatever of bfjax writes a file
writes it through here, but for prepared data sets, which are TFDS'; the core writes none.
"""

import lazy_loader

# __init__.pyi says what is here; Orbax and Arrow are imported when they are used
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
