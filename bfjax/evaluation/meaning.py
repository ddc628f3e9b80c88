"""What a recorded attack means, whatever `attacks.bias_field` has come to take for granted since.

Results note the defaults that their attack was made with. Older ones name no border: what they took
for granted is `BEFORE`.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bfjax import attacks, field

ZERO_IF_ABSENT = frozenset({"decay", "offset", "start_noise"})
"""Options of `attacks.bias_field` that change nothing at 0, and are `None` where they are absent;
bfjax once wrote 0 for that."""
BEFORE: dict[str, Any] = {
    "degree": 10,
    "min_degree": 1,
    "grid_size": 16,
    "terms": "literal",
    "border": "free",
    "max_warp_gradient": None,
    "l1_coefficients": 0.1,
    "l1_warp": 0.0,
    "reduction": "sum",
    "step_size": 0.06,
    "warp_step_size": None,
    "decay": None,
    "num_steps": 10,
    "max_change": 0.1,
    "max_log_field": None,
    "max_log_range": None,
    "log_field_bound": "clip",
    "iterate": "last",
    "early_stop": False,
    "start_noise": None,
    "offset": None,
    "encoding": "linear",
    "gamma": 0.29,
    "extent": [-1.0, 1.0],
}
"""The options of `bfjax attack`, and so of `attacks.bias_field` and `attacks.paper`, of results
that name no border."""
_PAPERS = ("bias_field", "paper")
# what None stands for, unless the field is bounded
_UNBOUNDED: dict[str, Any] = {"step_size": 0.06, "num_steps": 10, "iterate": "last"}
_BOUNDS = ("max_log_field", "max_log_range")
# others whose options are noted with results
_OTHERS = (attacks.bounded_field, field.polynomial_tps, field.legendre, field.cosine)

Defaults = Mapping[str, Mapping[str, Any]]
"""Name of a function to what it takes for granted."""


def defaults(text: str) -> dict[str, dict[str, Any]]:
    """What the attack of a text takes for granted today, as results note it.

    Args:
      text: the attack, see `parse_attack`.

    Returns:
      Name of the function to its options, as JSON holds them; none of attacks without a field.

    Example:
      >>> sorted(defaults("restarts(bias_field(degree=4), 5)"))
      ['bias_field']
      >>> defaults("bim")
      {}
    """
    used = {node.id for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name)}
    return {name: options for name, options in _today().items() if name in used}


def _today() -> dict[str, dict[str, Any]]:
    usual = {function.__name__: _usual(function) for function in (attacks.bias_field, *_OTHERS)}
    return usual | {"paper": usual["bias_field"] | attacks.PAPER}


def _usual(function: Callable[..., Any]) -> dict[str, Any]:
    parameters = inspect.signature(function).parameters.values()
    usual = {p.name: p.default for p in parameters if isinstance(p.default, _PLAIN)}
    return {k: list(v) if isinstance(v, tuple) else v for k, v in usual.items()}


_PLAIN = (bool, int, float, str, tuple, type(None))


def noted_today(text: str) -> dict[str, Any]:
    """What is noted with the results of an attack, so that they can be made again in later times.

    Args:
      text: the attack.

    Returns:
      Of an attack on a log field its encoding, and of a smooth one its defaults, for the settings.

    Example:
      >>> noted_today("bias_field(encoding='log')")["encoding"]
      'log'
      >>> noted_today("bim")
      {}
    """
    taken = defaults(text)
    full = ast.walk(ast.parse(expanded(text, taken)))
    options = {k.arg: k.value for node in full if isinstance(node, ast.Call) for k in node.keywords}
    said = {k: ast.literal_eval(options[k]) for k in ("encoding", "domain") if k in options}
    if said.get("domain") == "log":  # of a free log field
        said.setdefault("encoding", "linear")
    noted = {"defaults": taken} if taken else {}
    return noted | ({"encoding": said["encoding"]} if "encoding" in said else {})


def noted(settings: Mapping[str, Any]) -> Defaults:
    """What an attack took for granted when it was made.

    Args:
      settings: of a result.

    Returns:
      Name of the function to its options.

    Example:
      >>> noted({"attack": "bias_field"})["bias_field"]["border"]
      'free'
    """
    found = settings.get("defaults") or dict.fromkeys(_PAPERS, BEFORE)
    return {name: _today()[name] | dict(options) for name, options in found.items()}


def completed(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of `bfjax attack`, with options that there were none of when they were written.

    Args:
      settings: of a result.

    Returns:
      The same, and what was taken for granted; those of `bfjax evaluate` as they are.

    Example:
      >>> completed({"degree": 4, "max_change": 0.2})["max_warp_gradient"] is None
      True
    """
    if "attack" in settings or "border" in settings:
        return dict(settings)
    return BEFORE | dict(settings)


def expanded(text: str, taken: Defaults) -> str:
    """An attack in full: every option of its bias field, in one order.

    Args:
      text: the attack.
      taken: what it takes for granted.

    Returns:
      A text that is equal for equal attacks.

    Example:
      >>> expanded("bias_field(degree=4)", {"bias_field": {"degree": 10, "decay": 0}})
      'bias_field(decay=None, degree=4.0)'
    """
    tree = _parsed(text)
    return ast.unparse(_Completed(taken, canonical=True).visit(_called(tree)))


def _called(tree: ast.expr) -> ast.expr:
    return ast.Call(tree, [], []) if isinstance(tree, ast.Name) else tree


class _Completed(ast.NodeTransformer):
    """Writes out what calls leave unsaid; the canonical way, all options in one order and form."""

    def __init__(self, taken: Defaults, *, canonical: bool = False):
        self.taken, self.canonical = taken, canonical

    def visit_Call(self, node: ast.Call) -> ast.Call:
        self.generic_visit(node)
        if not isinstance(node.func, ast.Name):
            return node
        taken, name = self.taken.get(node.func.id, {}), node.func.id
        options = {k.arg: k.value for k in node.keywords if k.arg is not None}
        options |= {k: _parsed(repr(v)) for k, v in taken.items() if k not in options}
        if name in _PAPERS and all(_is_none(options.get(k)) for k in _BOUNDS):
            options = self._unbounded(options, node)
        if self.canonical:
            options = {k: _parsed(_plain(k, v)) for k, v in sorted(options.items())}
        keywords = [ast.keyword(k, v) for k, v in options.items()]
        return ast.Call(ast.Name("bias_field" if name in _PAPERS else name), node.args, keywords)

    def _unbounded(self, options: dict[str, ast.expr], node: ast.Call) -> dict[str, ast.expr]:
        """With what None stands for; in words, without that, where nobody has said it."""
        meant = {k: _parsed(repr(v)) for k, v in _UNBOUNDED.items()}
        full = {k: meant[k] if k in meant and _is_none(v) else v for k, v in options.items()}
        if self.canonical:
            return full
        said = {k.arg for k in node.keywords}
        return {
            k: v
            for k, v in full.items()
            if k in said or k not in meant or _plain(k, v) != _plain(k, meant[k])
        }


def _is_none(node: ast.expr | None) -> bool:
    return node is None or (isinstance(node, ast.Constant) and node.value is None)


def _parsed(text: str) -> ast.expr:
    return ast.parse(text, mode="eval").body


def _plain(name: str, node: ast.expr) -> str:
    """A value in one form: 1 as 1.0, a list as a tuple, what is absent as None."""
    try:
        value = ast.literal_eval(node)
    except ValueError:
        return ast.unparse(node)
    if name in ZERO_IF_ABSENT and not value:
        return "None"
    if isinstance(value, int | float) and not isinstance(value, bool):
        return repr(float(value))
    return repr(tuple(map(float, value)) if isinstance(value, list | tuple) else value)


def same_attack(settings: Mapping[str, Any], text: str) -> bool:
    """Whether a result is of the attack that a text means today.

    Args:
      settings: of the result of an evaluation.
      text: the attack.

    Returns:
      Whether it is.

    Example:
      >>> same_attack({"attack": "bim(num_steps=3)"}, "bim(num_steps=3.0)")
      True
      >>> same_attack({"attack": "bias_field"}, "bias_field")
      False
    """
    return expanded(settings["attack"], noted(settings)) == expanded(text, _today())


def in_todays_words(settings: Mapping[str, Any]) -> str:
    """The text that means today what a result was made with.

    Args:
      settings: of the result of an evaluation.

    Returns:
      Its own text, where nothing has changed; else with what was taken for granted written out.

    Example:
      >>> in_todays_words({"attack": "bim(num_steps=3)"})
      'bim(num_steps=3)'
    """
    text = settings["attack"]
    if same_attack(settings, text):
        return text
    today = _today()
    today["paper"] = today["bias_field"]  # in whose words it is said
    changed = {
        name: {k: v for k, v in options.items() if not _equal(k, v, today[name][k])}
        for name, options in noted(settings).items()
    }
    return ast.unparse(_Completed(changed).visit(_called(_parsed(text))))


def _equal(name: str, one: Any, other: Any) -> bool:
    return _plain(name, _parsed(repr(one))) == _plain(name, _parsed(repr(other)))


def in_words_of(
    before: Mapping[str, Any], settings: Mapping[str, Any], folder: Path
) -> dict[str, Any]:
    """What two settings say in different words, in those of the first.

    Args:
      before: those of a run that was begun.
      settings: those of now.
      folder: of the run.

    Returns:
      The entries of the first that the second means too.

    Raises:
      ValueError: the same text has come to mean another attack.

    Example:
      >>> before = {"attack": "bim(num_steps=3)"}
      >>> in_words_of(before, {"attack": "bim(num_steps=3.0)"}, Path("out"))["attack"]
      'bim(num_steps=3)'
    """
    zeros = [k for k in ZERO_IF_ABSENT & before.keys() if not (before[k] or settings.get(k))]
    same = {name: before[name] for name in zeros}
    if all(settings.get(name) is None for name in _BOUNDS):
        usual = [k for k, v in _UNBOUNDED.items() if k in settings and before.get(k) == v]
        same |= {name: before[name] for name in usual if settings[name] is None}
    known, text = before.get("attack"), settings.get("attack")
    if known is None or text is None:
        return same
    if same_attack(before, text):
        return same | {name: before.get(name) for name in ("attack", "defaults", "encoding")}
    if known == text:
        raise ValueError(
            f"{folder} was begun when {text} meant another attack, which today is "
            f"{in_todays_words(before)}: say so, or choose another --out"
        )
    return same
