import numpy as np
from matplotlib import colors
from PIL import Image

from bfjax.training import curves

ROW = {"val_accuracy": 0.5, "val_auc": 0.9}
HISTORY = [ROW | {"epoch": i + 1, "train_loss": 1 / (i + 1), "val_loss": 2.0 + i} for i in range(6)]


def test_the_curves_show_the_log_and_the_epoch_that_is_kept():
    losses, scores = curves.plot(HISTORY, kept=4).axes
    drawn = {line.get_label(): line.get_xydata() for line in losses.lines}
    np.testing.assert_allclose(drawn["validation"], [(i + 1, 2.0 + i) for i in range(6)])
    np.testing.assert_allclose(
        drawn["training, augmented"], [(i + 1, 1 / (i + 1)) for i in range(6)]
    )
    assert [x for x, _ in drawn["kept: epoch 4"]] == [4, 4]
    assert {line.get_label() for line in scores.lines} == {"accuracy", "AUC", "kept: epoch 4"}
    for axes in (losses, scores):
        assert axes.get_xlabel() == "epoch"
        assert axes.get_ylabel()
        assert all(x == round(x) for x in axes.get_xticks())


def test_the_curves_differ_without_colour():
    """In their brightness too: for a reader of prints, and for the colour-blind."""
    for axes in curves.plot(HISTORY, kept=1).axes:
        one, two, _ = axes.lines
        grey = [np.dot([0.2126, 0.7152, 0.0722], colors.to_rgb(c.get_color())) for c in (one, two)]
        assert abs(grey[0] - grey[1]) > 0.03
        assert one.get_linestyle() != two.get_linestyle()
        assert one.get_marker() != two.get_marker()


def test_one_epoch_and_many_are_drawn(tmp_path):
    for count in (1, 60):
        rows = [HISTORY[0] | {"epoch": i + 1} for i in range(count)]
        with Image.open(curves.draw(tmp_path / f"{count}.png", rows, kept=1)) as picture:
            assert picture.size == (1012, 396)
            assert np.asarray(picture.convert("L")).std() > 5
    assert len(list(tmp_path.iterdir())) == 2
