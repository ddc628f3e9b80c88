"""ONNX files as `Predict`s, through jaxonnxruntime (an optional dependency)."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from bfjax.types import Image, Logits, Predict


class Imported(NamedTuple):
    """A network from an ONNX file.

    Attributes:
      predict: one image to its logits.
      image_size: the side that the file declares, `None` where it leaves that open.
    """

    predict: Predict
    image_size: int | None


def load_onnx(path: str | Path) -> Imported:
    """Reads a classifier from an ONNX file.

    It has one input (batch, channels, height, width), as PyTorch exports it, of images in [0, 1]:
    normalisation belongs into the network. A grey image is repeated for one that takes RGB. Its
    first output is (batch, classes), logits.

    Args:
      path: the file.

    Returns:
      The network. Its weights travel as arguments, like those of a checkpoint.

    Raises:
      ImportError: jaxonnxruntime is not installed.
      FileNotFoundError: there is no such file.
      ValueError: it cannot be read, uses operators that jaxonnxruntime does not know, all of which
        are named, or has no gradient, with the operator that lacks it.
    """
    try:
        onnx = importlib.import_module("onnx")
        runtime = importlib.import_module("jaxonnxruntime.call_onnx")
    except ImportError as error:
        raise ImportError(
            f"{path}: ONNX needs jaxonnxruntime: pip install 'bfjax[onnx]'"
        ) from error
    if not Path(path).exists():
        raise FileNotFoundError(f"{path} does not exist")
    try:
        model = onnx.load(str(path))
        onnx.checker.check_model(model)
        channels, side = _declared(model)
        if missing := _missing(runtime, model):
            raise ValueError(f"jaxonnxruntime has no {', '.join(missing)}; {_INSTEAD}")
        sample = np.zeros((1, channels, side or 32, side or 32), np.float32)
        function, weights = runtime.call_onnx_model(model, [sample])
    except Exception as error:  # the parser, the checker and the converter raise many kinds
        raise ValueError(f"{path} cannot be used: {' '.join(str(error).split())[:400]}") from error
    predict = Partial(Partial(_call, function, channels), weights)
    image = jax.ShapeDtypeStruct((side or 32, side or 32, 1), np.float32)
    if failed := _gradient_fails(predict, image):
        try:
            where = _without_gradient(runtime, onnx.load(str(path)), sample)
        except Exception:  # nodes alone may need what only the whole model says
            where = "whole"
        raise ValueError(
            f"{path} has no gradient: that of its {where} fails ({failed}); {_INSTEAD}"
        )
    return Imported(predict, side)


def onnx_data(path: str | Path) -> list[Path]:
    """The files beside an ONNX file that hold weights of it ("external data").

    Args:
      path: of an ONNX file that `load_onnx` read.

    Returns:
      Their paths, sorted; none where all weights are in the file itself.
    """
    onnx = importlib.import_module("onnx")
    model = onnx.load(str(path), load_external_data=False)
    external = importlib.import_module("onnx.external_data_helper")
    names = {
        external.ExternalDataInfo(tensor).location
        for tensor in _messages(model, onnx.TensorProto)
        if external.uses_external_data(tensor)
    }
    return [Path(path).parent / name for name in sorted(names)]


_INSTEAD = (
    "a PyTorch network needs no ONNX: bfjax.models.from_torch(net, ...), on the command line the "
    ".pt2 file of torch.export.save"
)


def _missing(runtime: Any, model: Any) -> list[str]:
    """The operators of a model that jaxonnxruntime lacks, or has for other opsets alone."""
    onnx = importlib.import_module("onnx")
    handlers, missing = runtime._get_all_handlers(model.opset_import), set()
    for node in _messages(model.graph, onnx.NodeProto):
        found = handlers.get(node.domain, {}).get(node.op_type)
        if found is None:
            missing.add(node.op_type)
        elif not hasattr(found, f"version_{found.SINCE_VERSION}"):
            missing.add(f"{node.op_type} of opset {found.SINCE_VERSION}")
    return sorted(missing)


def _gradient_fails(function: Any, inputs: Any) -> str | None:
    """What a gradient raises; it is traced, not computed."""

    def total(inputs: Any) -> Any:
        found = [y for y in jax.tree.leaves(function(inputs)) if _is_float(y)]
        return sum((y.sum() for y in found), start=jnp.zeros(()))

    try:
        jax.eval_shape(jax.grad(total), inputs)
    except Exception as error:  # JAX raises many kinds
        return str(error).partition("\n")[0].partition(". ")[0] or type(error).__name__
    return None


def _without_gradient(runtime: Any, model: Any, sample: np.ndarray) -> str:
    """The first node that has no gradient, of those between an image and its logits."""
    onnx = importlib.import_module("onnx")
    info, nodes = onnx.helper.make_empty_tensor_value_info, list(model.graph.node)
    names = [node.name for node in nodes]  # jaxonnxruntime gives others
    made = [name for node in nodes for name in node.output if name]
    del model.graph.output[:]
    model.graph.output.extend(map(info, made))
    function, values = runtime.call_onnx_model(model, [sample])
    (image,) = {v.name for v in model.graph.input} - values.keys()
    values = values | {image: sample} | dict(zip(made, function(values, [sample]), strict=True))
    for node, name in zip(nodes, names, strict=True):
        given = {n: values[n] for n in node.input if n}
        graph = onnx.helper.make_graph(
            [node], "one", [*map(info, given)], [*map(info, node.output)]
        )
        alone = onnx.helper.make_model(graph, opset_imports=model.opset_import)
        one, _ = runtime.call_onnx_model(alone, given)
        moved = {n: v for n, v in given.items() if _is_float(v)}
        if _gradient_fails(lambda x, one=one, given=given: one({}, given | x), moved):
            return f"{node.op_type} ({name})" if name else node.op_type
    return "whole"


def _is_float(array: Any) -> bool:
    return jnp.issubdtype(array.dtype, jnp.floating)


def _messages(message: Any, kind: type) -> Iterator[Any]:
    """All messages of a kind within a Protocol Buffer: a tensor may lie in a node of a subgraph."""
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        for inner in value if isinstance(value, Sequence) else [value]:
            if isinstance(inner, kind):
                yield inner
            else:
                yield from _messages(inner, kind)


def _declared(model: Any) -> tuple[int, int | None]:
    """Channels and side of the one input that is no weight."""
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    shapes = [[d.dim_value for d in v.type.tensor_type.shape.dim] for v in inputs]
    if len(shapes) != 1 or len(shapes[0]) != 4 or shapes[0][1] not in (1, 3):
        raise ValueError(f"its inputs are {shapes}, not one (batch, 1 or 3, height, width)")
    _, channels, height, width = shapes[0]
    if height != width:
        raise ValueError(f"its input is {height} x {width}, not square")
    return channels, height or None


def _call(function: Any, channels: int, weights: Any, image: Image) -> Logits:
    image = jnp.broadcast_to(image, (*image.shape[:2], channels))
    return function(weights, [image.transpose(2, 0, 1)[None]])[0][0]
