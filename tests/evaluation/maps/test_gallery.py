import matplotlib
import numpy as np
import pytest
from matplotlib.colors import Normalize

from bfjax.evaluation.maps import gallery

THIRD = {"value": 0.25, "low": 0.2, "high": 0.31}
SUMMARY = {"images": 7, "thirds": {"top": THIRD, "middle": THIRD, "bottom": THIRD}}


def test_a_blend_is_the_xray_where_the_map_is_zero_and_mostly_colour_where_it_is_one():
    image = np.array([[[0.2], [0.6]]])
    found = gallery.blended(image, np.array([[0.0, 1.0]]))
    np.testing.assert_allclose(found[0, 0], 0.2)
    yellow = np.array(matplotlib.colormaps["viridis"](1.0)[:3])
    np.testing.assert_allclose(found[0, 1], 0.25 * 0.6 + 0.75 * yellow)
    scaled = gallery.blended(image, np.array([[2.0, 4.0]]), scale=Normalize(2, 4))
    np.testing.assert_allclose(scaled, found)
    rgb = np.repeat(image, 3, axis=-1)
    np.testing.assert_allclose(gallery.blended(rgb, np.array([[0.0, 1.0]])), found)


def test_the_mean_map_shows_its_thirds():
    mean = np.linspace(0, 1, 36).reshape(6, 6)
    figure = gallery.mean_figure(mean, np.full((6, 6, 1), 0.5), SUMMARY)
    axes = figure.axes[0]
    np.testing.assert_allclose(axes.images[0].get_array(), mean)
    assert [label.get_text() for label in axes.get_yticklabels()] == ["25 %\n[20, 31]"] * 3
    assert axes.get_yticks().tolist() == [0.5, 2.5, 4.5]  # from top to bottom
    assert [line.get_ydata()[0] for line in axes.lines] == [1.5, 3.5]
    assert "7 maps" in axes.get_title()


@pytest.mark.parametrize(("value", "told"), [(None, []), (0.25, ["25 %"] * 3)])
def test_flat_maps_and_maps_without_thirds_or_their_intervals_are_drawn(tmp_path, value, told):
    """All maps zero; nearly all of them, so that some resamples are."""
    third = dict.fromkeys(THIRD) | {"value": value}
    summary = SUMMARY | {"thirds": dict.fromkeys(SUMMARY["thirds"], third)}
    figure = gallery.mean_figure(np.zeros((4, 4)), np.zeros((4, 4, 3)), summary)
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == told
    gallery.save(figure, tmp_path / "flat.png")
    assert (tmp_path / "flat.png").read_bytes().startswith(b"\x89PNG")


def test_a_case_says_what_the_map_does():
    record = {
        "file": "x/<y>.png", "label": "a", "clean_prediction": "a", "clean_score": 0.9,
        "adversarial_prediction": "b", "adversarial_score": 0.1,
    }  # fmt: skip
    image = np.full((4, 4, 1), 0.5)
    figure = gallery.case_figure(record, image, 0.9 * image, np.eye(4), flips=False, score=0.7)
    titles = [axis.get_title() for axis in figure.axes[:3]]
    assert titles[0] == "original: a\nP(truth) = 0.90"
    assert titles[1] == "attacked: b\nP(truth) = 0.10"
    assert titles[2] == "attacked only here: right again\nP(truth) = 0.70"
    assert gallery.file_name(12, record["file"]) == "00012__y_.png"
