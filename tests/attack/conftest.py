"""A classifier and two images of the shape that attacks are swept at."""

import pytest

from experiments.benchmark.sweeps import SHAPE
from tests.networks import images, smooth_network


@pytest.fixture(scope="module")
def network():
    return smooth_network(shape=SHAPE)


@pytest.fixture(scope="module")
def batch():
    return images(2, SHAPE, low=0.2, high=0.8)
