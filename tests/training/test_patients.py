import numpy as np
import pytest

from bfjax.training.patients import split_patients


def test_patients_stay_on_one_side():
    generator = np.random.default_rng(1)
    patient = generator.integers(0, 120, 600)
    labels = (patient % 4 > 0).astype(int)  # three quarters positive
    groups = [f"person{p}" for p in patient]
    train, held = split_patients(labels, groups, fraction=0.1, seed=0)
    assert sorted([*train, *held]) == list(range(600))
    assert not {groups[i] for i in train} & {groups[i] for i in held}
    for label in (0, 1):
        share = (labels[held] == label).sum() / (labels == label).sum()
        assert 0.1 <= share <= 0.15
    again = split_patients(labels, groups, fraction=0.1, seed=0)[1]
    other = split_patients(labels, groups, fraction=0.1, seed=1)[1]
    np.testing.assert_array_equal(held, again)
    assert set(held) != set(other)


def test_a_split_that_cannot_be_is_refused():
    with pytest.raises(ValueError, match="class 1 has 1 patients"):
        split_patients(np.array([0, 0, 1, 1]), ["a", "b", "c", "c"], fraction=0.5, seed=0)
    with pytest.raises(ValueError, match=r"\(0, 1\), got 1\.5"):
        split_patients(np.array([0, 0]), ["a", "b"], fraction=1.5, seed=0)
