"""How right a classifier is, clean and attacked: attacks on whole data sets, judged by all models.

Options, or a `Predict` and a `data.Source`, come in; folders of records, summaries and pictures go
out, which survive interruption and can be opened again. Each attack on one model is a cell;
`commands` makes cells of options, and nothing below reads options. `evaluate_classifier` scores
clean images. `maps` says through which parts of an image a finished attack works. Called by the
command line, by training for its scores, by the report and by the experiments; no attack and no
model knows of it.
"""

import lazy_loader

# __init__.pyi says what is here; JAX is imported when it is used, which `--help` does not
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
