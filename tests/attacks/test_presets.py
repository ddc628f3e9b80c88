import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bfjax
from bfjax.attacks import fixed, foolbox2, paper
from tests.networks import answers, images, smooth_network


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bim", "fgsm", "mi_fgsm", "saliency_map"])
def test_searches_go_less_far_than_fixed_attacks(name):
    """Those of foolbox 2 seek the smallest change; each fools wherever the fixed one does."""
    predict, batch = smooth_network(classes=2, scale=1.0), images(6, low=0.2, high=0.8)
    labels = answers(predict, batch)
    small, large = (
        bfjax.run_batch(preset()[name], predict, batch, labels) for preset in (foolbox2, fixed)
    )
    fooled = [np.asarray(r.logits.argmax(-1) != labels) for r in (small, large)]
    assert fooled[0].mean() > 0.8
    assert (fooled[0] >= fooled[1]).all()
    change = [np.square(r.adversarial - batch).mean((1, 2, 3)) for r in (small, large)]
    assert (change[0] <= change[1] + 1e-9)[fooled[1]].all()


def test_the_presets_have_the_papers_baselines():
    names = ["bim", "carlini_wagner_l2", "saliency_map", "fgsm", "mi_fgsm"]
    assert list(foolbox2()) == list(fixed()) == names
    cw = foolbox2()["carlini_wagner_l2"]
    assert (cw.binary_search_steps, cw.max_steps, cw.initial_const) == (5, 1000, 0.01)
    bim = fixed(epsilon=0.05)["bim"]
    assert jax.tree.leaves(bim.project) == [0.05]
    # equal presets share a compilation
    for one, other in zip(foolbox2().values(), foolbox2().values(), strict=True):
        assert jax.tree.structure(one) == jax.tree.structure(other)
    with pytest.raises(ValueError, match="epsilon"):
        fixed(epsilon=0.0)


@pytest.mark.slow
def test_the_papers_attack_says_every_detail_that_the_paper_says_or_leaves_open():
    attack, batch = paper((12, 12)), images(2, low=0.2, high=0.8, shape=(12, 12, 1))
    params = attack.perturbation.init(batch[0], None)
    assert params.coefficients.shape == (45,)  # literal Eq. 4, D = 10, D0 = 1
    assert params.control_points.shape == (256, 2)
    penalty = attack.penalty(params._replace(coefficients=jnp.ones(45)))
    assert float(penalty) == pytest.approx(4.5)  # 0.1, summed over 45
    moved = params._replace(control_points=params.control_points + 1)
    assert float(attack.penalty(moved)) == 0
    predict = smooth_network(classes=2, scale=1.0, shape=(12, 12, 1))
    result = bfjax.run_batch(attack, predict, batch, answers(predict, batch))
    assert result.trace.loss.shape == (2, 10)
    coefficients = np.asarray(result.params.coefficients) / 0.06
    assert abs(coefficients - coefficients.round()).max() < 1e-4
    assert abs(coefficients).max() > 0
    assert abs(result.adversarial - batch).max() <= 0.1 + 1e-6
    with pytest.raises(ValueError, match="image_shape"):
        paper((12,))
