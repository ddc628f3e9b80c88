import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import proof_and_attack
from tests.evaluation.test_attack import checkpoint


@pytest.mark.slow
def test_proof_and_attack_are_drawn_and_each_image_is_made_once(tmp_path, monkeypatch):
    monkeypatch.setattr(proof_and_attack, "RESULTS", tmp_path / "results")
    model = checkpoint(tmp_path / "model")
    options = {"num_samples": 12, "num_draws": 2, "num_steps": 3, "data": "phantom"}
    config = proof_and_attack.Config(model=model, num_images=2, **options)
    proof_and_attack.main(config)
    text = (tmp_path / "results" / "proof_and_attack.json").read_text(encoding="utf-8")
    assert str(tmp_path) not in text
    assert len(json.loads(text)["found"]) == 2
    assert (tmp_path / "results" / "proof_and_attack.png").exists()
    monkeypatch.setattr(proof_and_attack, "of_image", pytest.fail)
    proof_and_attack.main(config)


def one_distance(scale, distance, **options):
    """Of a threshold of the mean log intensity along one field the radius is its distance."""
    image = np.full((8, 8, 1), 0.5, np.float32)
    basis = proof_and_attack.legendre((8, 8), degree=4).basis()[3]

    def predict(weights, x):
        score = jnp.mean(weights * jnp.log(x[..., 0] / 0.5))
        return scale * jnp.stack([distance + score, jnp.zeros(())])

    config = proof_and_attack.Config(model=Path(), sigma=0.05, **options)
    programs, of = proof_and_attack._programs(config), jax.tree_util.Partial(predict, basis)
    return lambda label, key: proof_and_attack.of_image(
        programs, of, image, label, jax.random.key(key), num_tries=config.num_tries
    )


def test_the_attack_stays_above_the_proof_and_comes_near_it():
    of_image = one_distance(400, 0.1, num_draws=64)
    found = of_image(0, 0)
    assert found["answer"] == 0
    assert 0.07 < found["certified"] < 0.1  # with a thousand draws
    assert found["certified"] < found["attacked"] < 0.14
    assert found["broken"] == dict.fromkeys(proof_and_attack.ATTACKS, False)
    wrong = of_image(1, 0)
    assert (wrong["certified"], wrong["attacked"]) == (0, 0)


@pytest.mark.parametrize(("scale", "distance"), [(100, 0.02), (400, 0.03)])
def test_a_light_is_found_where_few_draws_err_by_themselves(scale, distance):
    """Near the threshold 16 draws often err without light, or name a light that no others obey."""
    of_image = one_distance(scale, distance)
    found = [of_image(0, key) for key in range(12)]
    assert all(one["attacked"] is not None for one in found)
    assert all(one["certified"] < one["attacked"] < 1.6 * distance for one in found)
    assert not any(hit for one in found for hit in one["broken"].values())
