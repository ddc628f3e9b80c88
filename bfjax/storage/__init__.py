"""Everything that bfjax keeps on a disk: whole files, shards of records, saved states, and where.

Arrays, tables and JSON come in; files that are either whole or absent go out, and come back as what
they were, or are refused by name. Nothing is pickled. Whoever writes a file that outlives its
process, from `bfjax.models` to the experiments, writes it through here; the core writes none.
"""

import lazy_loader

# __init__.pyi says what is here; Orbax and Arrow are imported when they are used
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
