"""How fast bfjax is beside its peers: `python -m experiments.benchmark`."""
