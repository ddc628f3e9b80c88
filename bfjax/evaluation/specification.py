"""Attacks as configuration describes them: as a text, as options, as settings of a finished run.

    bias_field(max_change=0.05)
    bim(epsilon=0.05, num_steps=20)
    foolbox2()["fgsm"]
    bias_field(optimizer=optax.adam(0.03), transform=resize_and_pad())
    bounded_field(legendre(degree=4), max_log_range=0.4)

The names in a text are those of `bfjax.attacks` and `bfjax.attack`, fields of `bfjax.field`, and
`optax`; images and fields get their size from the images. The text is walked
as a syntax tree, so nothing else can be called.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import optax

from bfjax import attack, attacks, field
from bfjax.evaluation import meaning
from bfjax.evaluation.meaning import ZERO_IF_ABSENT
from bfjax.types import Attack, Loss, Perturbation, Search


def parse_attack(
    text: str, image_shape: tuple[int, ...], *, taken: meaning.Defaults | None = None
) -> Attack | Search:
    """The attack that a text describes.

    Args:
      text: an expression, see above; the name alone stands for a call without options.
      image_shape: (h, w, c) of the images, handed to the attacks that want it.
      taken: what the text takes for granted, of a result; `None` is what it does today.

    Returns:
      The attack.

    Raises:
      ValueError: naming the text, for what is no such expression or no attack, and for options
        that the attack refuses.

    Example:
      >>> parse_attack("bim(epsilon=0.05, num_steps=20)", (32, 32, 1)).num_steps
      20
      >>> parse_attack("bias_field", (32, 32, 1)).num_steps
      10
    """
    try:
        tree = ast.parse(text, mode="eval").body
        found = _value(tree, image_shape, taken or {})
        found = found() if isinstance(tree, ast.Name) else found
    except (SyntaxError, TypeError, ValueError, KeyError, AttributeError) as error:
        raise ValueError(f"the attack {text!r} cannot be made: {error}") from error
    if not isinstance(found, Attack | Search):
        raise ValueError(f"{text!r} is no attack; attacks are {', '.join(_of(attacks))}")
    return found


def _value(node: ast.expr, shape: tuple[int, ...], taken: meaning.Defaults) -> Any:
    value = functools.partial(_value, shape=shape, taken=taken)
    match node:
        case ast.Name(name):
            named = _named("bias_field" if name == "paper" and name in taken else name, shape)
            return functools.partial(named, **_plain(taken[name])) if name in taken else named
        case ast.Attribute(ast.Name("optax"), name) if inspect.isfunction(
            function := getattr(optax, name, None)
        ):
            return function
        case ast.Call(function, arguments, keywords) if all(k.arg for k in keywords):
            options = {str(k.arg): value(k.value) for k in keywords}
            return value(function)(*map(value, arguments), **options)
        case ast.Subscript(mapping, ast.Constant(key)):
            return value(mapping)[key]
        case ast.Tuple(elements) | ast.List(elements):
            return tuple(map(value, elements))
    try:
        return ast.literal_eval(node)
    except ValueError:
        raise ValueError(f"{ast.unparse(node)} means nothing here") from None


def _named(name: str, shape: tuple[int, ...]) -> Callable[..., Any]:
    fields = {n: f for n, f in _of(field).items() if "shape" in inspect.signature(f).parameters}
    names = fields | _of(attack) | _of(attacks)
    if name not in names:
        raise ValueError(f"there is no {name}; attacks are {', '.join(_of(attacks))}")
    found = names[name]
    wanted = inspect.signature(found).parameters
    if "image_shape" in wanted:
        return functools.partial(found, shape)
    return functools.partial(found, shape[:2]) if "shape" in wanted else found


def _plain(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options as JSON gives them back, which has no tuples."""
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in options.items()}
    return {k: None if k in ZERO_IF_ABSENT and not v else v for k, v in values.items()}


def _of(module: Any) -> dict[str, Callable[..., Any]]:
    found = {name: getattr(module, name) for name in module.__all__}
    return {name: v for name, v in found.items() if inspect.isfunction(inspect.unwrap(v))}


def of_findings(made: Attack | Search) -> Attack | Search:
    """An attack on a head of several findings, each right or wrong for itself.

    Args:
      made: an attack whose loss is of single classes, or of findings already.

    Returns:
      The attack with the loss of the same kind for findings.

    Raises:
      ValueError: it searches, and for a single class.

    Example:
      >>> of_findings(attacks.bim()).loss is attack.binary_cross_entropy
      True
    """
    if not isinstance(made, Attack):
        raise ValueError(
            f"{type(made).__name__} searches for one class: choose one of the findings, or an "
            "attack such as bim or bias_field"
        )
    return dataclasses.replace(made, loss=_OF_FINDINGS.get(made.loss, made.loss))


_OF_FINDINGS: dict[Loss, Loss] = {
    attack.cross_entropy: attack.binary_cross_entropy,
    attack.margin: attack.binary_margin,
}


def bias_field_at(options: Mapping[str, Any], shape: tuple[int, int]) -> Perturbation:
    """The perturbation of `attacks.bias_field` on images of another size, in float64.

    Args:
      options: that the attack was made with; those that are missing have their defaults, of
        results that name no border those of their time.
      shape: (h, w).

    Returns:
      What `attacks.bias_field` perturbs with; a bound on |B̂| that it holds by scaling is in the
      parameters that it finds.

    Example:
      >>> import jax
      >>> with jax.enable_x64(True):
      ...     perturbation = bias_field_at({"degree": 3, "grid_size": 4}, (30, 20))
      ...     params = perturbation.init(jnp.zeros((30, 20, 1)), None)
      ...     params.control_points.shape, perturbation.log_field(params).shape
      ((16, 2), (30, 20))
    """
    usual = inspect.signature(attacks.bias_field).parameters
    chosen = {name: parameter.default for name, parameter in usual.items()}
    chosen |= _plain(meaning.completed(options))
    polynomial = ("degree", "min_degree", "grid_size", "terms", "border", "extent")
    made = field.chunked_polynomial_tps(
        shape, **{name: chosen[name] for name in polynomial}, dtype=jnp.float64
    )
    held = chosen["log_field_bound"]
    return field.bias_field(
        made,
        max_change=chosen["max_change"],
        max_log_field=None if held == "project" else chosen["max_log_field"],
        saturation="tanh" if held == "tanh" else "clip",
        offset=chosen["offset"],
        encoding=chosen["encoding"],
        gamma=chosen["gamma"],
    )


def from_settings(settings: Mapping[str, Any], image_shape: tuple[int, ...]) -> Attack | Search:
    """The attack of a finished run.

    Args:
      settings: as its summary holds them: `bfjax attack` stores options, `bfjax evaluate` a text.
      image_shape: (h, w, c) of the images.

    Returns:
      The attack.

    Raises:
      ValueError: the text is no attack any more.

    Example:
      >>> from_settings({"attack": "bim(num_steps=3)", "seed": 0}, (32, 32, 1)).num_steps
      3
    """
    if "attack" in settings:
        return parse_attack(settings["attack"], image_shape, taken=meaning.noted(settings))
    known = meaning.completed(settings)
    options = inspect.signature(attacks.bias_field).parameters.keys() & known.keys()
    return attacks.bias_field(image_shape, **_plain({name: known[name] for name in options}))
