"""The TFDS builder of Kermany's chest X-rays; `bfjax.data.load("chest_xray", ...)` uses it."""
