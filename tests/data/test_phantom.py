import numpy as np
import pytest

from bfjax.data import load
from bfjax.data.phantom import phantom
from bfjax.data.phantom_source import PhantomSource

SIZE = 64


def area_under_curve(negative: np.ndarray, positive: np.ndarray) -> float:
    """Chance that a positive's score is above a negative's."""
    return float((positive[:, None] > negative[None, :]).mean())


@pytest.fixture(scope="module")
def chests():
    source = PhantomSource("test", num_examples=200, image_size=SIZE)
    return [source.draw(i) for i in range(len(source))]


def test_same_seed_same_phantom_other_seed_another():
    a, b = (phantom((3, 4), size=SIZE, positive=True) for _ in range(2))
    for x, y in zip(a, b, strict=True):
        np.testing.assert_array_equal(x, y)
    assert (phantom((3, 5), size=SIZE).image != a.image).mean() > 0.5


def test_source_is_deterministic_and_order_free():
    a = load("phantom", "train", num_examples=4, image_size=32)
    b = load("phantom", "train", num_examples=9, image_size=32)
    np.testing.assert_array_equal(a[3]["image"], b[3]["image"])
    assert a.names == b.names[:4]
    other = load("phantom", "train", num_examples=4, image_size=32, seed=1)
    assert (other[3]["image"] != a[3]["image"]).mean() > 0.5


def test_splits_and_seeds_share_no_phantom():
    images, names = set(), set()
    for split in ("train", "val", "test"):
        for seed in (0, 1):
            source = load("phantom", split, num_examples=10, image_size=32, seed=seed)
            images |= {record["image"].tobytes() for record in source}
            names |= set(source.names)
    assert len(images) == len(names) == 60


def test_defaults_and_balance():
    assert {s: len(load("phantom", s)) for s in ("train", "val", "test")} == {
        "train": 512,
        "val": 128,
        "test": 128,
    }
    source = load("phantom", "val", image_size=16)
    assert source.class_names == ("NORMAL", "PNEUMONIA")
    assert source.labels.mean() == 0.5
    assert len(set(source.groups)) == 128
    record = source[5]
    assert record["label"] == source.labels[5] == 1
    assert record["name"] == source.names[5] == f"PNEUMONIA/{source.groups[5]}.png"
    assert record["cause"] == ""


def test_a_patient_is_the_same_with_and_without_the_disease():
    ill, well = (phantom(11, size=SIZE, positive=p) for p in (True, False))
    np.testing.assert_array_equal(ill.lungs, well.lungs)
    np.testing.assert_array_equal(ill.heart, well.heart)
    assert not well.opacities.any()


def test_the_same_anatomy_at_every_size():
    small, large = (phantom(12, size=s) for s in (64, 128))
    assert abs(small.lungs.mean() - large.lungs.mean()) < 0.01
    assert abs(small.image.mean() - large.image.mean()) < 5


def test_it_is_a_chest(chests):
    columns = np.arange(SIZE)[None, :]
    for chest in chests:
        image, lungs, heart = chest.image[..., 0].astype(float), chest.lungs, chest.heart
        assert chest.image.shape == (SIZE, SIZE, 1)
        assert chest.image.dtype == np.uint8
        assert not (lungs & heart).any()
        assert 0.12 < lungs.mean() < 0.45
        assert 0.02 < heart.mean() < 0.2
        left, right = lungs[:, : SIZE // 2].mean(), lungs[:, SIZE // 2 :].mean()
        assert left > right > 0.04  # the heart takes from the lung on the image's right
        center = (lungs * columns).sum() / lungs.sum()
        assert (heart * columns).sum() / heart.sum() > center - 1
        assert image[heart].mean() > image[lungs].mean() + 15  # air is dark
        assert not (chest.opacities & ~lungs).any()


def test_positives_and_only_positives_have_opacities(chests):
    sizes = np.array([chest.opacities.sum() / chest.lungs.sum() for chest in chests])
    assert (sizes[::2] == 0).all()
    assert (sizes[1::2] > 0.01).all()
    assert sizes[1::2].std() > 0.1  # small ones and large ones


def test_opacities_are_brighter_than_the_lung_around(chests):
    contrast = []
    for chest in chests[1::2]:
        image = chest.image[..., 0].astype(float)
        clear = chest.lungs & ~chest.opacities
        if clear.any():
            contrast.append(image[chest.opacities].mean() - image[clear].mean())
    assert np.mean(np.array(contrast) > 0) > 0.9


def test_lungs_tell_the_classes_apart_and_mean_brightness_does_not(chests):
    def unevenness(chest):  # in units of the heart's brightness: the exposure cancels
        image = chest.image[..., 0].astype(float)
        dark, bright = np.quantile(image[chest.lungs], (0.2, 0.9))
        return (bright - dark) / image[chest.heart].mean()

    lungs = np.array([unevenness(chest) for chest in chests])
    brightness = np.array([chest.image.mean() for chest in chests])
    assert area_under_curve(lungs[::2], lungs[1::2]) > 0.85
    assert 0.35 < area_under_curve(brightness[::2], brightness[1::2]) < 0.65


def test_bad_arguments():
    with pytest.raises(ValueError, match=r"no split 'all'; it has train, val, test"):
        load("phantom", "all")
    with pytest.raises(ValueError, match="got 0"):
        load("phantom", "test", num_examples=0)
    with pytest.raises(ValueError, match="got 8"):
        load("phantom", "test", image_size=8)
    with pytest.raises(ValueError, match="no native size"):
        load("phantom", "test", image_size=None)
    with pytest.raises(ValueError, match="'stretch'"):
        load("phantom", "test", resize="stretch")
    with pytest.raises(ValueError, match="got -1"):
        load("phantom", "test", seed=-1)
    with pytest.raises(ValueError, match="got 15"):
        phantom(0, size=15)
