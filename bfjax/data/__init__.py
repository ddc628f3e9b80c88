"""Chest X-rays, any folder of class folders, and phantoms, as random-access sources for Grain.

Convention:
    A record's image is (h, w, 1), uint8 or uint16; `to_float` takes it to float32 in [0, 1].
    Nothing is dropped silently: a file that cannot be decoded rightly raises an `ImageError`
    with its name when it is read, and `check` lists all of them.
"""

import lazy_loader

# __init__.pyi says what is here; Grain, TFDS and pydicom are imported when they are used
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
