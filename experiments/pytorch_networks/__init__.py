"""Do PyTorch's classifiers work here, and how fast? `python -m experiments.pytorch_networks`."""
