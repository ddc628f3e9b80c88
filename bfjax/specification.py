"""Attacks written as text, as configuration files and the command line have them.

    bias_field(max_change=0.05)
    bim(epsilon=0.05, num_steps=20)
    foolbox2()["fgsm"]
    bias_field(optimizer=optax.adam(0.03), transform=resize_and_pad())

The names are those of `bfjax.attacks` and `bfjax.attack`, and `optax`; the text is walked as a
syntax tree, so nothing else can be called.
"""

from __future__ import annotations

import ast
import functools
import inspect
from collections.abc import Callable
from typing import Any

import optax

from bfjax import attack, attacks
from bfjax.types import Attack, Search


def parse(text: str, image_shape: tuple[int, ...]) -> Attack | Search:
    """The attack that a text describes.

    Args:
      text: an expression, see above; the name alone stands for a call without options.
      image_shape: (h, w, c) of the images, handed to the attacks that want it.

    Returns:
      The attack.

    Raises:
      ValueError: naming the text, for what is no such expression or no attack, and for options
        that the attack refuses.

    Example:
      >>> parse("bim(epsilon=0.05, num_steps=20)", (32, 32, 1)).num_steps
      20
      >>> parse("bias_field", (32, 32, 1)).num_steps
      10
    """
    try:
        tree = ast.parse(text, mode="eval").body
        found = _value(tree, image_shape)
        found = found() if isinstance(tree, ast.Name) else found
    except (SyntaxError, TypeError, ValueError, KeyError) as error:
        raise ValueError(f"the attack {text!r} cannot be made: {error}") from error
    if not isinstance(found, Attack | Search):
        raise ValueError(f"{text!r} is no attack; attacks are {', '.join(_of(attacks))}")
    return found


def _value(node: ast.expr, shape: tuple[int, ...]) -> Any:
    value = functools.partial(_value, shape=shape)
    match node:
        case ast.Name(name):
            return _named(name, shape)
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
    names = _of(attack) | _of(attacks)
    if name not in names:
        raise ValueError(f"there is no {name}; attacks are {', '.join(_of(attacks))}")
    found = names[name]
    wants_shape = "image_shape" in inspect.signature(found).parameters
    return functools.partial(found, shape) if wants_shape else found


def _of(module: Any) -> dict[str, Callable[..., Any]]:
    found = {name: getattr(module, name) for name in module.__all__}
    return {name: v for name, v in found.items() if callable(v) and not isinstance(v, type)}
