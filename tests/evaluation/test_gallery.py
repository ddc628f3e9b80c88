import numpy as np

from bfjax.evaluation import gallery


def row(label="a", clean="a", adversarial="a"):
    scores = {"clean_score": 0.9, "adversarial_score": 0.1}
    predictions = {"clean_prediction": clean, "adversarial_prediction": adversarial}
    return {"file": "x/y z<b>.png", "label": label} | predictions | scores


FOOLED_A, FOOLED_B = row("a", "a", "b"), row("b", "b", "a")
RESISTED, WRONG = row("a", "a", "a"), row("a", "b", "b")


def test_fooled_cases_come_first_alternating_between_the_classes():
    rows = [WRONG, RESISTED, FOOLED_A, FOOLED_A, FOOLED_A, FOOLED_B, RESISTED]
    assert gallery.choose(rows, 4) == [2, 5, 3, 1]
    assert gallery.choose(rows, 7) == [2, 5, 3, 4, 1, 6, 0]
    assert gallery.choose(rows, 99) == gallery.choose(rows, 7)


def test_without_fooled_cases_the_others_fill_the_gallery():
    assert gallery.choose([WRONG, RESISTED, RESISTED], 2) == [1, 2]
    assert gallery.choose([FOOLED_A, FOOLED_A], 2) == [0, 1]
    assert gallery.choose([], 3) == []


def test_picture_shows_image_field_adversarial_and_difference(tmp_path):
    rng = np.random.default_rng(0)
    image = rng.uniform(0.2, 0.8, (8, 8, 1))
    log_field = np.full((8, 8), np.log(1.5))
    case = gallery.Case(FOOLED_A, image, log_field, image * 1.1)
    figure = gallery.panels([case])
    panels = figure.axes[:4]
    shown = [np.asarray(axis.images[0].get_array()) for axis in panels]
    np.testing.assert_allclose(shown[0], image[..., 0])
    np.testing.assert_allclose(shown[1], 1.5)
    np.testing.assert_allclose(shown[2], image[..., 0] * 1.1)
    np.testing.assert_allclose(shown[3], image[..., 0] * 0.1)
    low, high = panels[1].images[0].get_clim()
    assert np.isclose(low * high, 1)  # the colours of the field are centred at 1
    assert "darker" not in panels[1].get_title()
    log = gallery.panels([case._replace(encoding="log")]).axes[1]
    assert "more is darker" in log.get_title()
    assert "a" in panels[0].get_title()
    assert "0.10" in panels[2].get_title()


def test_picture_of_rgb_and_of_no_field_at_all(tmp_path):
    image = np.random.default_rng(0).uniform(0, 1, (8, 8, 3))
    case = gallery.Case(RESISTED, image, np.zeros((8, 8)), image)
    path = gallery.draw(tmp_path, 3, case)
    assert path.name == "00003_y_z_b_.png"
    assert path.read_bytes().startswith(b"\x89PNG")
