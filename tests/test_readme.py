"""What the README and the guides show works as it stands there."""

import doctest
import json
import re
import sys
import types
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bfjax
from bfjax import models
from tests.evaluation.test_attack import checkpoint
from tests.models.parity import import_torch

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
OWN_MODEL = (ROOT / "bfjax" / "models" / "README.md").read_text(encoding="utf-8")
GUIDES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "experiments/README.md",
                                   "bfjax/attack/README.md", "bfjax/cli/README.md",
                                   "bfjax/models/README.md")]  # fmt: skip
each_guide = pytest.mark.parametrize(
    "guide", GUIDES, ids=lambda path: path.relative_to(ROOT).as_posix()
)


def blocks(text):
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


def test_the_readme_is_read_in_one_go():
    assert len(README.splitlines()) <= 200
    assert len(re.findall(r"^!\[", README, re.MULTILINE)) == 2  # an attack, and one figure


@pytest.mark.slow
def test_the_python_example_of_the_readme_runs(tmp_path, monkeypatch, capsys):
    (code,) = blocks(README)
    assert len([line for line in code.splitlines() if line.strip()]) <= 12
    checkpoint(tmp_path / "bfjax-demo" / "model", image_size=80)
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {})
    assert 0 <= float(capsys.readouterr().out.split()[-1]) <= 1


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras'
def test_the_models_of_ones_own_are_attacked(tmp_path, monkeypatch):
    """One example after the other, as a reader would paste them."""
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    codes = [code for code in blocks(OWN_MODEL) if not of_torch(code)]
    assert len(codes) >= 6
    with jax.numpy_rank_promotion("allow"):  # which Keras needs
        for code in codes:
            names.pop("result", None)
            exec(compile(code, "bfjax/models/README.md", "exec"), names)
            if "run_batch" in code:
                assert names["result"].adversarial.shape == (2, 32, 32, 1)


def of_torch(code):
    return "torch" in code


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*is asked through a callback:UserWarning")
@pytest.mark.filterwarnings("ignore:all outputs of the model:UserWarning")  # weights are random
def test_the_torch_models_of_ones_own_are_attacked(capsys):
    import_torch()
    start, *_ = blocks(OWN_MODEL)
    codes = [code for code in blocks(OWN_MODEL) if of_torch(code)]
    assert len(codes) == 3
    names: dict = {}
    for code in [start, *codes]:
        exec(compile(code, "bfjax/models/README.md", "exec"), names)
    assert names["result"].adversarial.shape == (2, 32, 32, 1)
    said = capsys.readouterr().out.splitlines()[-1]
    answers = names["result"].logits.argmax(-1).tolist()
    assert said == f"tensor({answers}) instead of tensor({names['labels'].tolist()})"


@pytest.mark.slow
def test_the_experiments_with_gradient_transformations_run(tmp_path, monkeypatch):
    checkpoint(tmp_path / "bfjax-demo" / "model", image_size=80)
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for code in blocks((ROOT / "bfjax" / "attack" / "README.md").read_text(encoding="utf-8")):
        exec(compile(code, "bfjax/attack/README.md", "exec"), names)
        if "for rate in" in code:
            assert names["compiled"]._cache_size() == 1
    curve, one = names["curve"](names["bounds"]), names["result"].logits
    assert curve[0] < curve[1:].min()  # the narrowest bound is the weakest; steps may overshoot
    assert len(one) == len(curve)
    assert max(names["margins"]) > names["margins"][0]  # a better schedule was found
    assert names["sparse"][1.0] == pytest.approx(names["found"]["sign steps"], abs=1e-4)
    assert all(np.isfinite(list(names["found"].values())))
    (slope, kept), (same, less) = names["whole"], names["less"]
    assert slope == pytest.approx(same, rel=1e-3)
    assert less < kept / 4


def anchors(path):
    """Those that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@each_guide
def test_every_file_that_is_linked_is_there(guide):
    links = re.findall(r"\]\((?!https?:)([^)]+)\)", guide.read_text(encoding="utf-8"))
    for link in links:
        name, _, anchor = link.partition("#")
        path = guide.parent / name if name else guide
        assert path.exists(), link
        assert not anchor or anchor in anchors(path), link


@each_guide
def test_every_command_that_is_named_is_there(guide):
    from bfjax.cli import COMMANDS

    prose = re.sub(r"```.*?```", "", guide.read_text(encoding="utf-8"), flags=re.DOTALL)
    code = "\n".join(re.findall(r"^ {4}.*$|`[^`]*`", prose, re.MULTILINE))
    assert set(re.findall(r"\bbfjax ([a-z]+)", code)) <= set(COMMANDS)


def test_the_guide_to_the_command_line_knows_every_command():
    from bfjax.cli import COMMANDS

    text = (ROOT / "bfjax" / "cli" / "README.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^    bfjax ([a-z]+)", text, re.MULTILINE)) == set(COMMANDS)


@each_guide
def test_every_experiment_that_is_named_is_there(guide):
    text = guide.read_text(encoding="utf-8")
    named = set(re.findall(r"python -m experiments\.([a-z_0-9]+)", text))
    if guide.parent.name == "experiments":
        table = re.search(r"\*\*Commands\.\*\*(.*?)\n## ", text, re.DOTALL)
        listed = set(re.findall(r"`([a-z_]+\d?)(?: --[^`]*)?`", table[1]))
        assert len(listed) >= 15
        named |= listed
    for name in named:
        found = {path.stem for path in (ROOT / "experiments").glob(f"{name}*")}
        assert name in found, name


def test_each_section_of_the_results_has_a_question_its_evidence_and_its_command():
    text = (ROOT / "experiments" / "README.md").read_text(encoding="utf-8")
    _, *sections = re.split(r"^## ", text, flags=re.MULTILINE)
    assert len(sections) >= 15
    for section in sections:
        question = section.splitlines()[0]
        assert question.endswith("?"), question
        assert re.search(r"^!\[|^\|---|\]\(results/", section, re.MULTILINE), question
        assert "python -m experiments." in section, question


def test_every_experiment_is_in_the_guide():
    """Each file that is a command, so that no result lacks its question."""
    commands = {
        path.stem if path.name != "__main__.py" else path.parent.name
        for path in [*ROOT.glob("experiments/*.py"), *ROOT.glob("experiments/*/__main__.py")]
        if 'if __name__ == "__main__"' in path.read_text(encoding="utf-8")
    }
    text = (ROOT / "experiments" / "README.md").read_text(encoding="utf-8")
    assert {name for name in commands if f"experiments.{name}" not in text} == set()


@pytest.fixture
def skeletons():
    field, attack, network, experiment = blocks(
        (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    )
    return {"field": field, "attack": attack, "network": network, "experiment": experiment}


def test_the_skeletons_of_a_field_and_an_attack_attack(skeletons):
    names: dict = {"__name__": "contributed"}
    for kind in ("field", "attack"):
        exec(compile(skeletons[kind], "CONTRIBUTING.md", "exec"), names)
    for name in ("tilt", "tilted_light"):
        for example in doctest.DocTestFinder().find(names[name], name, globs=names):
            assert doctest.DocTestRunner().run(example).failed == 0
    predict = lambda image: 9 * jnp.stack([image[:, :4].mean(), image[:, 4:].mean()])  # noqa: E731
    image = jnp.full((8, 8, 1), 0.5)
    result = bfjax.run(names["tilted_light"]((8, 8, 1)), predict, image, 0)
    assert int(result.logits.argmax()) == 1
    assert 0 < float(abs(jnp.log(result.adversarial / image)).max()) <= 0.4 + 1e-5


def test_the_skeleton_of_a_network_is_built_and_frozen(skeletons, monkeypatch):
    names: dict = {"__name__": "contributed"}
    exec(compile(skeletons["network"], "CONTRIBUTING.md", "exec"), names)
    row = names["TwoLayersConfig"], names["TwoLayers"]
    monkeypatch.setitem(models.ARCHITECTURES, "two_layers", row)
    model = models.build("two_layers", num_classes=3)
    image = jax.random.uniform(jax.random.key(0), (32, 32, 1))
    frozen = models.as_predict(models.freeze(model))
    np.testing.assert_allclose(frozen(image), model(image), rtol=1e-4, atol=1e-5)


def test_the_skeleton_of_an_experiment_runs(skeletons, tmp_path):
    names: dict = {"__name__": "brightness", "__file__": str(tmp_path / "brightness.py")}
    module = types.ModuleType("brightness")
    sys.modules["brightness"] = module  # dataclasses look there for the annotations' names
    try:
        exec(compile(skeletons["experiment"], "CONTRIBUTING.md", "exec"), names)
        names["main"](names["Config"](data="phantom", num_images=2))
    finally:
        del sys.modules["brightness"]
    written = tmp_path / "results" / "brightness" / "brightness.json"
    found = json.loads(written.read_text(encoding="utf-8"))
    assert 0 < found["mean"] < 1
    assert found["run"]["versions"]["bfjax"] == bfjax.__version__
