"""The house rules of the project: who imports whom, and how the public functions look."""

import ast
import inspect
from pathlib import Path

import pytest

import bfjax
import bfjax.attack
import bfjax.attacks
import bfjax.explain
import bfjax.field
import bfjax.metrics

PACKAGE = Path(bfjax.__file__).parent

# Each may import those below it in this table, and nothing of ours above it.
LAYERS = {
    "types": set(),
    "field": {"types"},
    "attack": {"types", "field"},
    "attacks": {"types", "field", "attack"},
    "explain": {"types", "field", "attack"},
    "metrics": {"types"},
    "home": set(),
    "memory": set(),
    "progress": set(),
    "config": set(),
    "records": {"types"},
    "models": {"types", "home", "records"},
    "data": {"types", "home"},
    "feed": {"data"},
    "intervals": {"metrics"},
    "classification": {"types", "data", "feed", "intervals", "metrics"},
    "optimization": {"types", "field", "config"},
    "validation": {"types", "classification", "config", "data", "optimization"},
    "preparation": {"types", "classification", "config", "data", "models", "optimization"},
    "resume": set(),
    "options": set(),
    "gallery": {"records"},
    "curves": {"records"},
    "measures": {"types", "field", "metrics"},
    "summary": {"metrics", "measures"},
    "specification": {"types", "attack", "attacks"},
    "judges": {"types", "attack", "models"},
    "cells": {"types", "data", "judges", "records", "summary"},
    "judging": {"types", "cells", "data", "feed", "judges", "measures", "records"},
    "running": {"types", "attack", "cells", "data", "feed", "judges", "judging", "records"},
    "native": {
        *("types", "field", "cells", "config", "data", "estimate", "feed", "judges", "metrics"),
        *("progress", "records"),
    },
    "finished": {"types", "config", "data", "evaluate", "judging", "records", "specification"},
    "map_gallery": {"records"},
    "map_summary": {"explain", "metrics", "records", "summary"},
    "explaining": {
        *("types", "cells", "config", "data", "estimate", "explain", "feed", "finished", "gallery"),
        *("judges", "map_gallery", "map_summary", "progress", "records"),
    },
    "report": {
        *("attacks", "config", "estimate", "finished", "gallery", "metrics", "progress"),
        "records",
    },
    "estimate": {
        *("types", "attacks", "cells", "config", "data", "feed", "judges", "measures", "models"),
        *("optimization", "preparation", "records", "running", "validation"),
    },
}
ABOVE_THE_LINE = ("types", "field", "attack", "attacks", "explain", "metrics")
CORE = {"__future__", "bfjax", "jax", "jaxtyping", "numpy", "optax"}


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


@pytest.mark.parametrize("part", LAYERS)
def test_imports_run_downwards_only(part):
    for file in _files(part):
        ours = {name.split(".")[1] for name in _imports(file) if name.startswith("bfjax.")}
        assert ours <= LAYERS[part] | {part}, file


@pytest.mark.parametrize("part", ABOVE_THE_LINE)
def test_the_core_knows_jax_and_optax_only(part):
    import sys

    for file in _files(part):
        outside = {name.split(".")[0] for name in _imports(file)} - set(sys.stdlib_module_names)
        assert outside <= CORE, file


def test_no_file_is_longer_than_a_person_reads():
    for file in PACKAGE.rglob("*.py"):
        assert len(file.read_text(encoding="utf-8").splitlines()) <= 320, file


def _public():
    for module in (bfjax.field, bfjax.attack, bfjax.attacks, bfjax.explain, bfjax.metrics):
        for name, value in vars(module).items():
            ours = inspect.isfunction(value) and value.__module__.startswith("bfjax")
            if ours and not name.startswith("_"):
                yield pytest.param(inspect.unwrap(value), id=f"{module.__name__}.{name}")


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
