"""Curves out of evaluations: attacks that differ in one number are points of one curve."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Sequence
from typing import Any

from bfjax import attacks
from bfjax.evaluation import ZERO_IF_ABSENT, noted
from bfjax.metrics import wilson_interval
from bfjax.report.loading import Run

_LABELS = {
    "max_change": "max_change, the bound on the change of a pixel",
    "degree": "degree, D of Eq. 4",
    "min_degree": "min_degree, D0 of Eq. 4",
}


def sweeps(runs: Sequence[Run]) -> dict[str, dict[str, Any]]:
    """White-box success over every option in which attacks of `bfjax evaluate` differ alone.

    Args:
      runs: of one folder.

    Returns:
      Option to curve, as `bfjax.report.curves.plot` takes it: one series for each attacked model,
      and, where they differ otherwise too, for each kind of attack.

    Example:
      >>> sweeps([])
      {}
    """
    calls = [(run, *_call(run.settings["attack"])) for run in runs if "attack" in run.settings]
    found = {}
    for option in dict.fromkeys(name for _, _, options in calls for name in options):
        groups: dict[tuple[str, str], dict[float, Run]] = {}
        for run, function, options in calls:
            value = _number(options.get(option, _default(run, function, option)))
            value = 0.0 if value is None and option in ZERO_IF_ABSENT else value
            if value is not None:
                said = _unsaid(run, function) | options  # what was taken for granted may have moved
                rest = ", ".join(f"{k}={v}" for k, v in sorted(said.items()) if k != option)
                groups.setdefault((run.source, f"{function}({rest})"), {})[value] = run
        groups = {key: points for key, points in groups.items() if len(points) > 1}
        if groups:
            found[option] = _curve(_LABELS.get(option, option), groups)
    return found


def _curve(label: str, groups: dict[tuple[str, str], dict[float, Run]]) -> dict[str, Any]:
    values = sorted({value for points in groups.values() for value in points})
    kinds = {rest for _, rest in groups}
    series = {}
    for (source, rest), points in groups.items():
        name = source if len(kinds) == 1 else f"{source}, {rest}"
        columns = zip(*(_rate(points.get(value)) for value in values), strict=True)
        series[name] = dict(zip(("rate", "low", "high"), map(list, columns), strict=True))
    return {"x": values, "xlabel": label, "series": series}


def _rate(run: Run | None) -> tuple[float | None, float | None, float | None]:
    rate = None if run is None else run.rate(run.source)
    if rate is None or not rate.correct:
        return None, None, None
    low, high = wilson_interval(rate.fooled, rate.correct)
    return float(rate.rate), float(low), float(high)


def _call(text: str) -> tuple[str, dict[str, str]]:
    """The function of an attack's description, and its options in words."""
    node = ast.parse(text, mode="eval").body
    if not isinstance(node, ast.Call) or node.args:
        return ast.unparse(node), {}
    options = {k.arg: ast.unparse(k.value) for k in node.keywords if k.arg is not None}
    return ast.unparse(node.func), options


def _unsaid(run: Run, function: str) -> dict[str, str]:
    """What a run took for granted and today's would not."""
    now = noted({"defaults": {function: {}}}) if function in noted(run.settings) else {}
    then = noted(run.settings).get(function, {})
    return {k: repr(v) for k, v in then.items() if now[function][k] != v}


def _default(run: Run, function: str, option: str) -> str:
    taken = noted(run.settings).get(function, {})
    if option in taken:
        return repr(taken[option])
    made = getattr(attacks, function, None)
    parameter = inspect.signature(made).parameters.get(option) if callable(made) else None
    return "None" if parameter is None else repr(parameter.default)


def _number(text: str) -> float | None:
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return None
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
