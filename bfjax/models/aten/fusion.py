"""What can be done to a graph and its weights before anything runs, exactly.

- A batch normalisation by running averages is a scale and a shift; behind a convolution that nobody
  else sees it goes into the convolution's weights (in float64).
- Zeros around an image that only a convolution sees are that convolution's padding.
- Kernels are laid out as the convolutions take them, wide 3×3 ones as Winograd's rule does.
- A maximum over windows whose indices nobody takes has none.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bfjax.models import winograd
from bfjax.models.aten.conv import as_kernel
from bfjax.models.aten.graph import Graph, Node, Value, renamed

_CONVOLUTION = "aten.convolution.default"
_BATCH_NORM = "bfjax.batch_norm"
_PAD = "aten.constant_pad_nd.default"
_FIRST_ONLY = {
    "aten._native_batch_norm_legit_no_training.default": _BATCH_NORM,
    "aten.max_pool2d_with_indices.default": "bfjax.max_pool2d",
    "aten.adaptive_max_pool2d.default": "bfjax.adaptive_max_pool2d",
}


def prepare(
    graph: Graph, weights: Mapping[str, np.ndarray], *, transform: bool
) -> tuple[Graph, dict[str, Any]]:
    """A graph that says the same in fewer operators, and its weights.

    Args:
      graph: as read from PyTorch.
      weights: its arrays.
      transform: keep kernels as `bfjax.models.winograd` has them, where that pays.

    Returns:
      Both anew; the names of weights stay those of the arrays that they come from.
    """
    graph = _first_of_several(graph)
    given = _Given(dict(weights), graph.users())
    nodes, folded = [], {}
    zeros = {node.name: node for node in graph.nodes if _is_padding(node, given)}
    for node in graph.nodes:
        if node.name in zeros:
            folded[node.name] = folded.get(node.args[0].name, node.args[0].name)
            continue
        if node.target == _CONVOLUTION and (pad := zeros.get(node.args[0].name)):
            node = _with_padding(node, pad.args[1])
        follower = _norm_behind(node, given) if node.target == _CONVOLUTION else None
        if node.target == _CONVOLUTION and given.has(node.args[1:3]):
            node = _convolution(node, follower, given, transform=transform)
            if follower:
                folded[follower.name] = node.name
        elif node.name in folded:
            continue
        elif node.target == _BATCH_NORM and given.has(node.args[1:5]):
            node = _affine(node, given)
        nodes.append(renamed(node, folded))
    output = folded.get(graph.output, graph.output)
    graph = Graph(graph.inputs, tuple(nodes), output)
    used = {name for node in nodes for name in node.values()} | {output}
    return graph, {name: given.arrays[name] for name in sorted(used & given.arrays.keys())}


@dataclasses.dataclass
class _Given:
    arrays: dict[str, Any]
    users: Mapping[str, list[Node]]

    def has(self, arguments: Any) -> bool:
        """Whether these are float32 weights, or none."""
        names = [a.name if isinstance(a, Value) else "" for a in arguments if a is not None]
        return all(getattr(self.arrays.get(n), "dtype", None) == np.float32 for n in names)

    def wide(self, argument: Value) -> np.ndarray:
        return np.asarray(self.arrays[argument.name], np.float64)

    def put(self, name: str, node: Node, array: Any) -> Value:
        """Under the name of what it comes from, unless other nodes take that too."""
        name = name if len(self.users[name]) <= 1 else f"{name}@{node.name}"
        is_plain = isinstance(array, np.ndarray)
        self.arrays[name] = np.ascontiguousarray(array, np.float32) if is_plain else array
        return Value(name)


def _first_of_several(graph: Graph) -> Graph:
    """Operators of which only the first result is taken are that result."""
    users, nodes, renames = graph.users(), [], {}
    for node in graph.nodes:
        taken = users.get(node.name, [])
        if node.target in _FIRST_ONLY and taken and all(one.args[1:] == (0,) for one in taken):
            renames |= {one.name: node.name for one in taken}
            node = dataclasses.replace(node, target=_FIRST_ONLY[node.target])
            nodes.append(renamed(node, renames))
        elif node.name not in renames:
            nodes.append(renamed(node, renames))
    return Graph(graph.inputs, tuple(nodes), renames.get(graph.output, graph.output))


def _is_padding(node: Node, given: _Given) -> bool:
    """Whether it puts zeros around an image, for one convolution that has weights."""
    users = given.users.get(node.name, [])
    if node.target != _PAD or len(users) != 1 or users[0].target != _CONVOLUTION:
        return False
    _, widths, *value = node.args
    plain = value in ([], [0]) and min(widths) >= 0 and len(widths) <= 4
    (user,) = users
    image, transposed = user.args[0] == Value(node.name), user.args[6]
    two_axes = len(user.args[3]) == 2
    return plain and image and two_axes and not transposed and given.has(user.args[1:3])


def _with_padding(node: Node, widths: Sequence[int]) -> Node:
    """A convolution that also pads: PyTorch names pairs of widths from the last axis on."""
    x, weight, bias, stride, padding, *rest = node.args
    pairs = [widths[i : i + 2] for i in range(0, len(widths), 2)][::-1]
    pairs = [(0, 0)] * (2 - len(pairs)) + pairs
    sides = tuple(
        (p + before, p + after) for p, (before, after) in zip(padding, pairs, strict=True)
    )
    even = all(before == after for before, after in sides)
    padding = tuple(before for before, _ in sides) if even else sides
    return dataclasses.replace(node, args=(x, weight, bias, stride, padding, *rest))


def _norm_behind(node: Node, given: _Given) -> Node | None:
    users = given.users.get(node.name, [])
    if len(users) != 1 or users[0].target != _BATCH_NORM or users[0].args[0] != Value(node.name):
        return None
    return users[0] if given.has(users[0].args[1:5]) else None


def _gain_and_shift(norm: Node, given: _Given) -> tuple[np.ndarray, np.ndarray]:
    _, scale, bias, mean, variance, _, epsilon = norm.args
    gain = 1 / np.sqrt(given.wide(variance) + epsilon)
    gain = gain if scale is None else gain * given.wide(scale)
    shift = -given.wide(mean) * gain
    return gain, shift if bias is None else shift + given.wide(bias)


def _affine(norm: Node, given: _Given) -> Node:
    gain, shift = _gain_and_shift(norm, given)
    mean, variance = norm.args[3:5]  # there is no norm without them
    values = given.put(variance.name, norm, gain), given.put(mean.name, norm, shift)
    return Node(norm.name, "bfjax.affine", (norm.args[0], *values))


def _convolution(node: Node, norm: Node | None, given: _Given, *, transform: bool) -> Node:
    x, weight, bias, stride, padding, dilation, transposed, extra, groups = node.args
    kernel = as_kernel(given.wide(weight), transposed=transposed, groups=groups)
    shift = None if bias is None else given.wide(bias)
    source, owner = bias, node
    if norm:
        gain, beyond = _gain_and_shift(norm, given)
        kernel = kernel * gain
        shift = beyond if shift is None else shift * gain + beyond
        source, owner = bias or norm.args[2] or norm.args[3], norm
    plain = groups == 1 and not transposed and {*stride, *dilation, *padding} == {1}
    if transform and plain and winograd.pays(kernel.shape, stride=1, padding=1):
        prepared = winograd.transform_kernel(kernel.astype(np.float32))
    else:
        prepared = kernel
    value = given.put(weight.name, node, prepared)
    if shift is not None:
        shift = given.put(source.name, owner, shift)
    args = (x, value, shift, stride, padding, dilation, transposed, extra, groups)
    return Node(node.name, "bfjax.convolve", args)
