"""The house rules of the project: who imports whom, and how the public functions look."""

import ast
import collections
import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import bfjax
import bfjax.attack
import bfjax.attacks
import bfjax.explain
import bfjax.field
import bfjax.metrics

PACKAGE = Path(bfjax.__file__).parent
EXPERIMENTS = PACKAGE.parent / "experiments"

# Each may import those that its row names, all of them above it: no circle, and none upwards.
LAYERS = {
    "types": set(),
    "numbers": {"types"},
    "memory": set(),
    "progress": set(),
    "estimate": set(),
    "field": {"types", "numbers"},
    "metrics": {"types", "numbers"},
    "storage": {"types"},
    "attack": {"types", "numbers", "field"},
    "attacks": {"types", "numbers", "field", "attack"},
    "robustness": {"types", "numbers", "field", "attack", "attacks", "metrics"},
    "explain": {"types", "numbers", "field", "attack"},
    "models": {"types", "storage"},
    "data": {"types", "storage"},
    "evaluation": {
        *("types", "progress", "estimate", "field", "metrics", "storage", "attack", "attacks"),
        *("explain", "robustness", "models", "data"),
    },
    "training": {
        *("types", "numbers", "memory", "progress", "estimate", "field", "storage", "robustness"),
        *("models", "data", "evaluation"),
    },
    "report": {"progress", "estimate", "metrics", "storage", "attacks", "evaluation"},
    "cli": {"memory", "estimate", "models", "data", "evaluation", "training"},
}
GROUND = ("types", "numbers", "memory", "progress", "estimate")
CORE = (*("types", "numbers", "field", "attack", "attacks", "robustness", "explain", "metrics"),)
OF_THE_CORE = {"__future__", "bfjax", "jax", "jaxtyping", "numpy", "optax"}
WINGS = (
    *("storage", "data", "evaluation", "evaluation.maps", "evaluation.standard"),
    *("evaluation.certified", "training", "report", "report.standard", "cli"),
)


def _files(part):
    path = PACKAGE / part
    return sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]


def _imports(file):
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} imports relatively"
            yield from (
                f"{node.module}.{alias.name}" if node.module == "bfjax" else node.module
                for alias in node.names
            )


def _ours(file):
    return {name for name in _imports(file) if name.startswith("bfjax.")}


def test_every_part_of_the_house_is_in_the_table():
    there = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or path.is_dir()}
    assert there - {"__init__", "__main__", "__pycache__"} == set(LAYERS)
    assert {part for part in LAYERS if (PACKAGE / f"{part}.py").exists()} == set(GROUND)


def test_the_table_has_no_circle():
    parts = list(LAYERS)
    for part, may in LAYERS.items():
        assert may <= set(parts[: parts.index(part)]), part


@pytest.mark.parametrize("part", LAYERS)
def test_imports_run_downwards_only(part):
    for file in _files(part):
        used = {name.split(".")[1] for name in _ours(file)} - {"__version__"}
        assert used <= LAYERS[part] | {part}, file


@pytest.mark.parametrize("part", [*LAYERS, "experiments"])
def test_a_package_is_entered_by_its_init(part):
    """From outside only what the `__init__` of a package hands on is taken."""
    for file in sorted(EXPERIMENTS.rglob("*.py")) if part == "experiments" else _files(part):
        inner = [n for n in _ours(file) if n.count(".") > 1 and n.split(".")[1] != part]
        assert set(inner) <= {f"bfjax.{wing}" for wing in WINGS if "." in wing}, file


@pytest.mark.parametrize("part", CORE)
def test_the_core_knows_jax_and_optax_only(part):
    for file in _files(part):
        outside = {name.split(".")[0] for name in _imports(file)} - set(sys.stdlib_module_names)
        assert outside <= OF_THE_CORE, file


def test_options_are_read_at_the_door_and_nowhere_else():
    """A wing's `commands` makes of its options what does the work; what is below sees only that."""
    configs = {f"bfjax.{'.'.join(f.relative_to(PACKAGE).with_suffix('').parts)}"
               for f in PACKAGE.rglob("config.py")}  # fmt: skip
    names = {
        name for config in configs for name, value in vars(importlib.import_module(config)).items()
        if inspect.isclass(value) and value.__module__ == config
    }  # fmt: skip
    assert {"AttackConfig", "TrainConfig", "ExplainConfig", "ReportConfig", "DemoConfig"} <= names
    # the demo makes options for others; a report says with which options a run is repeated
    doors = {"commands.py", "config.py", "cli/demo.py", "cli/options.py", "report/repeat.py"}
    for file in PACKAGE.rglob("*.py"):
        where = file.relative_to(PACKAGE).as_posix()
        if file.name not in doors and where not in doors:
            tree = ast.parse(file.read_text(encoding="utf-8"))
            used = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}
            assert not used & names, file


def test_no_two_names_of_modules_differ_only_by_an_ending():
    roots = collections.defaultdict(set)
    for file in PACKAGE.rglob("*.py"):
        name = file.parent.name if file.name == "__init__.py" else file.stem
        root = name.removesuffix("s")
        for ending in ("ation", "ion", "ing", "ment", "er", "ed", "e"):
            root = root.removesuffix(ending) if len(root) > len(ending) + 2 else root
        roots[root].add(name)
    twins = {frozenset(names) for names in roots.values() if len(names) > 1}
    # the two that users know by these names
    assert twins == {frozenset({"attack", "attacks"})}


def test_no_file_is_longer_than_a_person_reads():
    for file in PACKAGE.rglob("*.py"):
        assert len(file.read_text(encoding="utf-8").splitlines()) <= 320, file


@pytest.mark.parametrize("wing", WINGS)
def test_a_wing_hands_on_what_its_stub_says(wing):
    module = importlib.import_module(f"bfjax.{wing}")
    assert inspect.getdoc(module)
    stub = ast.parse((Path(module.__file__).with_suffix(".pyi")).read_text(encoding="utf-8"))
    (listed,) = [ast.literal_eval(n.value) for n in stub.body if isinstance(n, ast.Assign)]
    assert sorted(listed) == sorted(module.__all__)
    for name in listed:
        assert getattr(module, name) is not None, name


def test_wings_import_no_jax_before_they_are_used():
    names = "".join(f"import bfjax.{wing}\n" for wing in WINGS)
    program = f"{names}import sys; print('jax' in sys.modules, 'grain' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.stdout.split(), done.stderr) == (["False", "False"], "")


def test_the_core_loads_nothing_but_jax_and_optax():
    """Who uses it in a program of their own waits for no more."""
    parts = "; ".join(f"import bfjax.{part}" for part in CORE)
    heavy = ("flax", "orbax", "grain", "pyarrow", "matplotlib", "scipy.stats", "PIL", "tyro")
    program = f"import sys; {parts}; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def _public():
    core = (bfjax.field, bfjax.attack, bfjax.attacks, bfjax.robustness, bfjax.explain)
    for module in (*core, bfjax.metrics):
        for name in module.__all__:
            value = inspect.unwrap(getattr(module, name))  # what is jitted or cached too
            if inspect.isfunction(value):
                yield pytest.param(value, id=f"{module.__name__}.{name}")


@pytest.mark.parametrize("function", list(_public()))
def test_public_functions_are_documented_and_take_options_by_keyword(function):
    doc = inspect.getdoc(function)
    assert doc, "no docstring"
    assert "Example" in doc
    parameters = inspect.signature(function).parameters.values()
    assert "Args:" in doc or not parameters
    for parameter in parameters:
        assert parameter.annotation is not inspect.Parameter.empty, parameter
        assert f"{parameter.name}:" in doc, f"{parameter.name} is not described"
        if parameter.default is not inspect.Parameter.empty and parameter.name != "min_degree":
            assert parameter.kind is inspect.Parameter.KEYWORD_ONLY, parameter


def test_every_name_of_the_package_is_there():
    assert {"run", "run_batch", "attacks", "models", "Attack"} <= set(bfjax.__all__)
    for name in bfjax.__all__:
        assert getattr(bfjax, name) is not None
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        bfjax.nothing_of_the_kind  # noqa: B018
