"""Through which parts of its images a finished attack works (Eq. 8): `bfjax explain`.

The folder of a finished attack and its model come in; a map an image, their mean, what they amount
to and pictures of them go out, into a folder beside. `commands` makes a `MapRun` of options, and
nothing below reads them. Called by the command line and the experiments; the report only reads what
lies in the folder.
"""

import lazy_loader

# __init__.pyi says what is here; JAX is imported when it is used, which `--help` does not
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
