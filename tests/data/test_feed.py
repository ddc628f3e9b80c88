import numpy as np
import pytest

from bfjax.data import feed
from tests.evaluation.test_accuracy import Squares

SOURCE = Squares(11)


def shades(batches):
    """The images read, each told by its shade."""
    return np.concatenate([images[:, 0, 0, 0] for images, _ in batches])


def test_reading_in_order_leaves_nothing_out():
    expected = [(60 + 120 * (i // 2 % 2) + i) / 255 for i in range(11)]
    np.testing.assert_allclose(shades(feed.in_order(SOURCE, 4)), expected, rtol=1e-6)


def test_the_order_follows_from_its_seed_in_whole_batches():
    def read(seed):
        return shades(feed.shuffled(SOURCE, 4, seed=seed))

    np.testing.assert_array_equal(read(1), read(1))
    assert len(read(1)) == 8
    assert len(set(read(1))) == 8
    assert not np.array_equal(read(1), read(2))


@pytest.mark.parametrize("taken", range(6))
def test_reading_goes_on_from_any_batch(taken):
    whole = shades(feed.shuffled(SOURCE, 2, seed=3))
    reader = iter(feed.shuffled(SOURCE, 2, seed=3))
    for _ in range(taken):
        next(reader)
    other = iter(feed.shuffled(SOURCE, 2, seed=3))
    other.set_state(reader.get_state())
    rest = [images[:, 0, 0, 0] for images, _ in other]
    np.testing.assert_array_equal(np.ravel(rest), whole[2 * taken :])


def test_processes_share_each_batch_of_a_single_one():
    parts = [list(feed.shuffled(SOURCE, 4, seed=5, process=(i, 2))) for i in (0, 1)]
    together = [np.concatenate([x[0], y[0]]) for x, y in zip(*parts, strict=True)]
    one = [images for images, _ in feed.shuffled(SOURCE, 4, seed=5)]
    np.testing.assert_array_equal(one, together)
    assert all(len(labels) == 2 for part in parts for _, labels in part)
    with pytest.raises(ValueError, match="batches of 4 do not divide over 3 processes"):
        feed.shuffled(SOURCE, 4, seed=5, process=(0, 3))
