"""Runs a `Graph` in JAX: one operator after the other, activations with channels last."""

from __future__ import annotations

import collections
from collections.abc import Mapping
from typing import Any

import jax
from jaxtyping import Array

from bfjax.models.aten import channels_last
from bfjax.models.aten.channels_last import ChannelsLast
from bfjax.models.aten.graph import Graph, Value
from bfjax.models.aten.operators import ELEMENTWISE, OPERATORS, WITH_CHANNELS_LAST

_VIEWS = {
    "aten.permute.default": channels_last.permute,
    "aten.view.default": channels_last.view,
}
_OF_PIXELS = {
    "aten.mean.dim": channels_last.mean_of_pixels,
    "aten.mul.Tensor": channels_last.product_with_gate,
}
_GETITEM = "getitem"


def missing(graph: Graph) -> dict[str, int]:
    """The operators of a graph that have no translation.

    Args:
      graph: the network.

    Returns:
      How often each is there, the most frequent first.
    """
    known = {_GETITEM, *_VIEWS, *OPERATORS, *WITH_CHANNELS_LAST}
    return dict(
        collections.Counter(n.target for n in graph.nodes if n.target not in known).most_common()
    )


def run(graph: Graph, weights: Mapping[str, Any], *inputs: Array) -> Array:
    """The result of a network.

    Args:
      graph: the network.
      weights: its arrays by name.
      *inputs: images (n, h, w, c) where the network takes (n, c, h, w).

    Returns:
      What the graph's output is.
    """
    known: dict[str, Any] = dict(weights)
    known.update(zip(graph.inputs, map(ChannelsLast, inputs), strict=True))
    last = {name: i for i, node in enumerate(graph.nodes) for name in node.values()}
    for i, node in enumerate(graph.nodes):
        args, kwargs = _given(known, node.args), {k: _given(known, v) for k, v in node.kwargs}
        known[node.name] = call(node.target, *args, **kwargs)
        for name in node.values():  # eagerly, an activation is freed after its last use
            if last[name] == i and name != graph.output:
                known.pop(name, None)
    return channels_last.plain(known[graph.output])


def call(target: str, *args: Any, **kwargs: Any) -> Any:
    """One operator.

    Args:
      target: its name.
      *args: what its schema says; arrays plain or with channels last.
      **kwargs: keyword arguments.

    Returns:
      Its result, an array plain or with channels last, or several.
    """
    if target == _GETITEM:
        return args[0][args[1]]
    if target in _VIEWS:
        return _VIEWS[target](*args)
    if target in WITH_CHANNELS_LAST:
        x, *rest = args
        if (x.ndim == 3 and "2d" in target) or (x.ndim == 2 and "1d" in target):  # one image alone
            result = call(target, channels_last.plain(x)[None], *rest, **kwargs)
            return jax.tree.map(lambda y: channels_last.plain(y)[0], result, is_leaf=_is_leaf)
        result = WITH_CHANNELS_LAST[target](
            channels_last.channels_last(x).array, *map(channels_last.plain, rest), **kwargs
        )
        return _named(result, x.ndim)
    function, result = OPERATORS[target], None
    if _has_channels_last((args, kwargs)):
        if target in _OF_PIXELS and not kwargs:  # such as another type to count in
            result = _OF_PIXELS[target](*args)
        if result is not None:
            return result
        if target in ELEMENTWISE:
            result = channels_last.elementwise(function, args, kwargs)
        elif target in channels_last.CHANNEL_BY_CHANNEL:
            result = channels_last.channel_by_channel(function, args, kwargs)
        elif target in channels_last.AXES:
            result = channels_last.along_axes(target, function, args, kwargs)
    if result is None:
        result = function(*_plain(args), **{k: _plain(v) for k, v in kwargs.items()})
    return result


def _given(known: dict[str, Any], argument: Any) -> Any:
    """An argument with its values in their places, and tuples as the lists that they were."""
    if isinstance(argument, Value):
        return known[argument.name]
    if isinstance(argument, tuple):
        return [_given(known, one) for one in argument]
    return argument


def _plain(argument: Any) -> Any:
    if isinstance(argument, list | tuple):
        return [_plain(one) for one in argument]
    return channels_last.plain(argument)


def _named(result: Any, rank: int) -> Any:
    """Each result that is an activation, with its channels last."""
    if isinstance(result, tuple):
        return tuple(_named(one, rank) for one in result)
    return ChannelsLast(result) if result is not None and result.ndim == rank else result


def _is_leaf(value: Any) -> bool:
    return isinstance(value, ChannelsLast)


def _has_channels_last(argument: Any) -> bool:
    if isinstance(argument, list | tuple):
        return any(map(_has_channels_last, argument))
    if isinstance(argument, dict):
        return any(map(_has_channels_last, argument.values()))
    return isinstance(argument, ChannelsLast)
