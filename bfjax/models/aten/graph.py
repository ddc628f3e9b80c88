"""A PyTorch network as data: which operator is applied to what, without its weights.

A `Graph` holds numbers, strings and NumPy types, nothing of PyTorch. Two of equal text are equal,
so two checkpoints of one architecture share a compilation.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
from collections.abc import Iterator, Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Value:
    """What a node takes from elsewhere.

    Attributes:
      name: of another node, of an input or of a weight.
    """

    name: str


@dataclasses.dataclass(frozen=True)
class Node:
    """One operator, applied.

    Attributes:
      name: of its result.
      target: the operator, ``"aten.relu.default"``.
      args: its positional arguments in the order of its schema: `Value`s, numbers, strings, NumPy
        types, `None` and tuples of them.
      kwargs: its keyword arguments.
    """

    name: str
    target: str
    args: tuple[Any, ...]
    kwargs: tuple[tuple[str, Any], ...] = ()

    def values(self) -> list[str]:
        """The names of what it takes, in order."""
        return list(_names((self.args, tuple(value for _, value in self.kwargs))))


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Graph:
    """A network: its nodes, each after those that it takes something from.

    Attributes:
      inputs: the names of the inputs.
      nodes: the operators.
      output: the name of the result.
    """

    inputs: tuple[str, ...]
    nodes: tuple[Node, ...]
    output: str

    @functools.cached_property
    def text(self) -> str:
        """All of it as text, in which 1, 1.0 and True differ, and NaN is equal to NaN."""
        return repr((self.inputs, self.nodes, self.output))

    def __repr__(self) -> str:
        return f"Graph({len(self.nodes)} operators)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Graph) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)

    def users(self) -> dict[str, list[Node]]:
        """For each name the nodes that take it, in order."""
        found = collections.defaultdict(list)
        for node in self.nodes:
            for name in dict.fromkeys(node.values()):
                found[name].append(node)
        return found


def _names(argument: Any) -> Iterator[str]:
    if isinstance(argument, Value):
        yield argument.name
    elif isinstance(argument, tuple):
        for one in argument:
            yield from _names(one)


def renamed(node: Node, names: Mapping[str, str]) -> Node:
    """A node that takes what others are called now.

    Args:
      node: an operator.
      names: what names that are gone stand for.

    Returns:
      The node with these names in its arguments.
    """

    def new(argument: Any) -> Any:
        if isinstance(argument, Value):
            return Value(names.get(argument.name, argument.name))
        return tuple(map(new, argument)) if isinstance(argument, tuple) else argument

    kwargs = tuple((key, new(value)) for key, value in node.kwargs)
    return dataclasses.replace(node, args=new(node.args), kwargs=kwargs)
