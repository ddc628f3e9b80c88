"""PyTorch's `ExportedProgram` as a `Graph` and its weights.

Whatever depends on no image (position tables, masks, transposed weights) is computed here by
PyTorch, once, and counts as a weight.
"""

from __future__ import annotations

import importlib
import operator
from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np

from bfjax.models import torch_refusals
from bfjax.models.aten import Graph, Node, Value

_IGNORED = ("device", "layout", "memory_format", "pin_memory", "non_blocking")
_NARROWER = {"float64": "float32", "int64": "int32", "complex128": "complex64"}


def read(exported: Any) -> tuple[Graph, dict[str, np.ndarray]]:
    """The graph of a program, and its weights.

    Args:
      exported: a `torch.export.ExportedProgram` of one input, decomposed.

    Returns:
      The graph, and the arrays that it takes, by the names of PyTorch's parameters and buffers or
      of the nodes that make them.

    Raises:
      ValueError: a random operator, or a shape or number that depends on the image.
    """
    torch = importlib.import_module("torch")
    (output,) = exported.graph_signature.user_outputs
    (image,) = exported.graph_signature.user_inputs
    names, known = _given(exported)
    nodes = []
    with torch.no_grad():
        for node in _needed(exported.graph, output):
            torch_refusals.refuse_random(node, _name(node.target), torch)
            if all(source.name in known for source in node.all_input_nodes):
                known[node.name] = _computed(node, known)
            else:
                torch_refusals.refuse_operator(node, _name(node.target), torch)
                nodes.append(_translated(node, names))
    graph = Graph((image,), tuple(nodes), names.get(output, output))
    used = {name for node in nodes for name in node.values()} | {graph.output}
    arrays = {names.get(name, name): value for name, value in known.items()}
    return graph, {name: _array(arrays[name]) for name in sorted(used & arrays.keys())}


def _given(exported: Any) -> tuple[dict[str, str], dict[str, Any]]:
    """For parameters, buffers and constants PyTorch's names, and the tensors."""
    names, tensors = {}, {}
    taken = {node.name for node in exported.graph.nodes}  # operators, such as `mean`
    for spec in exported.graph_signature.input_specs:
        if spec.kind.name in ("PARAMETER", "BUFFER", "CONSTANT_TENSOR"):
            target = spec.target
            known = exported.state_dict if target in exported.state_dict else exported.constants
            name = target.removeprefix("network.")
            names[spec.arg.name] = spec.arg.name if name in taken else name
            tensors[spec.arg.name] = known[target]
    return names, tensors


def _needed(graph: Any, output: str) -> Iterator[Any]:
    """The operators that the output depends on, in order."""
    wanted, found = {output}, []
    for node in reversed(graph.nodes):
        if node.op == "call_function" and node.name in wanted:
            wanted |= {source.name for source in node.all_input_nodes}
            found.append(node)
    return reversed(found)


def _computed(node: Any, known: dict[str, Any]) -> Any:
    fx = importlib.import_module("torch.fx")
    args, kwargs = fx.node.map_arg((node.args, node.kwargs), lambda source: known[source.name])
    return node.target(*args, **kwargs)


def _translated(node: Any, names: dict[str, str]) -> Node:
    kwargs = {key: value for key, value in node.kwargs.items() if key not in _IGNORED}
    given = tuple((key, _argument(value, names)) for key, value in kwargs.items())
    args = tuple(_argument(value, names) for value in node.args)
    return Node(node.name, _name(node.target), args, given)


def _name(target: Any) -> str:
    return "getitem" if target is operator.getitem else str(target)


def _argument(value: Any, names: dict[str, str]) -> Any:
    torch, fx = importlib.import_module("torch"), importlib.import_module("torch.fx")
    if isinstance(value, fx.Node):
        return Value(names.get(value.name, value.name))
    if isinstance(value, list | tuple):
        return tuple(_argument(one, names) for one in value)
    if isinstance(value, torch.dtype):
        name = str(value).removeprefix("torch.")
        return jnp.dtype(_NARROWER.get(name, name))
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _array(tensor: Any) -> np.ndarray:
    """A tensor in NumPy, 64 bits narrowed to 32."""
    torch = importlib.import_module("torch")
    # of an item() it is a number
    tensor = torch.as_tensor(tensor).detach().resolve_conj().cpu()
    if tensor.dtype == torch.int64:
        limits = torch.iinfo(torch.int32)  # some masks hold the largest number there is
        return tensor.clamp(limits.min, limits.max).to(torch.int32).contiguous().numpy()
    if tensor.dtype == torch.bfloat16:  # a type that PyTorch does not hand to NumPy
        return tensor.contiguous().view(torch.int16).numpy().view(jnp.bfloat16)
    tensor = tensor.to(torch.float32) if tensor.dtype == torch.float64 else tensor
    return tensor.contiguous().numpy()
