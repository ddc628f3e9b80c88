"""PyTorch networks that cannot be read, each refused in one line that has the way out."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from bfjax.models import aten

_CALLBACK = (
    'or call bfjax.models.from_torch(..., route="callback"), which asks PyTorch for each gradient '
    "(on the command line: as a module:function of your own)"
)
_EXAMPLE = "channels=3, image_size=224"


class Refused(Exception):
    """Raised inside of PyTorch's exporting, which wraps other errors."""


def asked(channels: Any, size: Any) -> tuple[int, int, int]:
    """The (c, h, w) that somebody asks for, if that can be."""
    if channels not in (1, 3):
        raise ValueError(f"say what the network takes, as in {_EXAMPLE}: channels is {channels!r}")
    sides = size if isinstance(size, tuple) else (size, size)
    if len(sides) != 2 or not all(isinstance(side, int) and side > 0 for side in sides):
        raise ValueError(f"say what the network takes, as in {_EXAMPLE}: image_size is {size!r}")
    return (channels, *sides)


def declared(torch: Any, exported: Any, channels: Any, size: Any) -> tuple[int, int, int]:
    """What a program was exported for, completed by what is asked for."""
    values = {n.name: n.meta["val"] for n in exported.graph.nodes if n.op == "placeholder"}
    images = exported.graph_signature.user_inputs
    refuse_inputs(images)
    image = values.get(images[0])
    if not isinstance(image, torch.Tensor) or image.ndim != 4:
        raise ValueError(f"its input {images[0]} is no (1, channels, height, width) tensor")
    if image.dtype != torch.float32:
        raise ValueError(f"it takes images of {image.dtype}: export it from module.float()")
    batch, *declared = (n if isinstance(n, int) else None for n in image.shape)
    if batch not in (1, None):
        raise ValueError(
            f"it was exported for {batch} images at a time: export it with one, "
            'or with dynamic_shapes=({0: torch.export.Dim("batch")},)'
        )
    sides = size if isinstance(size, tuple) else (size, size)
    for name, own, wanted in zip(
        ("channels", "image_size", "image_size"), declared, (channels, *sides), strict=True
    ):
        if own is not None and wanted is not None and own != wanted:
            raise ValueError(f"it was exported for images {tuple(declared)}: {name} is {wanted!r}")
    known = [w if o is None else o for o, w in zip(declared, (channels, *sides), strict=True)]
    return asked(known[0], (known[1], known[2]))


def refuse_training(module: Any) -> None:
    """What behaves as in training gives no stable logits."""
    if module.training:
        raise ValueError("the network is in training mode: call its .eval() first")
    left = [name for name, part in module.named_modules() if part.training]
    if left:
        some = ", ".join(left[:3]) + (", …" if left[3:] else "")
        raise ValueError(f"parts are in training mode ({some}): call the network's .eval() first")


def refuse_inputs(names: Any) -> None:
    """A classifier takes one image."""
    if len(names) != 1:
        raise ValueError(
            f"the network takes {len(names)} inputs ({', '.join(map(str, names))}), not one image: "
            "wrap it in a module whose forward takes the image alone"
        )


def inputs_of(module: Any) -> list[str]:
    """The inputs that it cannot do without, the first in any case."""
    parameters = inspect.signature(module.forward).parameters.values()
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if not positional:
        return ["image"]  # *args: exporting will tell
    required = [p.name for p in positional if p.default is p.empty]
    return required or [positional[0].name]


def logits_of(output: Any, torch: Any) -> Any:
    """The logits among what a network returns."""
    found = output
    if isinstance(found, Mapping) and (len(found) == 1 or "logits" in found):
        found = found["logits"] if "logits" in found else next(iter(found.values()))
    elif not isinstance(found, torch.Tensor) and hasattr(found, "logits"):
        found = found.logits
    elif isinstance(found, list | tuple) and found:
        found = found[0]
    if isinstance(found, torch.Tensor):
        return found
    keys = f" with {', '.join(map(str, output))}" if isinstance(output, Mapping) else ""
    raise Refused(
        f"the network returns a {type(output).__name__}{keys}, in which no logits are found: "
        "wrap it in a module that returns them alone"
    )


def not_exported(error: Exception, shape: tuple[int, int, int]) -> ValueError:
    """What to say where `torch.export` fails."""
    return ValueError(
        f"PyTorch cannot export the network for images {shape} ({_said(error)}): "
        f"change that, {_CALLBACK}"
    )


def not_traced(error: Exception) -> ValueError:
    """What to say where an operator has no such form in JAX."""
    return ValueError(f"the network has no form in JAX ({_said(error)}): change that, {_CALLBACK}")


def _said(error: Exception) -> str:
    line = next((line for line in str(error).splitlines() if line.strip()), "").strip()
    return f"{type(error).__name__}: {line[:200]}"


def refuse_detached(exported: Any) -> None:
    """Decomposed, a tensor without gradient is one like any other."""
    images = set(exported.graph_signature.user_inputs)
    reached: set[str] = set()
    for node in exported.graph.nodes:
        if node.name in images or any(n.name in reached for n in node.all_input_nodes):
            reached.add(node.name)
            target = str(node.target)
            if "detach" in target or "wrap_with_set_grad_enabled" in target:
                raise ValueError(
                    "the network cuts gradients (detach, or torch.no_grad) of what depends on the "
                    f"image, as {node.name}: leave that out, {_CALLBACK}"
                )


def refuse_own_gradients(torch: Any, network: Any, traced: Any, shape: tuple[int, ...]) -> None:
    """A `torch.autograd.Function` is traced forward: its backward must be what that gives."""
    try:
        with torch.inference_mode(False), torch.enable_grad():
            image = torch.rand((1, *shape), generator=torch.Generator().manual_seed(0))
            logits = network(image.requires_grad_())
            own = sorted(_functions(logits.grad_fn))
            if not own:
                return
            weights = torch.linspace(1, 2, logits.numel()).view_as(logits)
            found, expected = (
                torch.autograd.grad((one * weights).sum(), image, materialize_grads=True)[0]
                for one in (traced(image), logits)
            )
    except Exception as error:  # PyTorch raises many kinds
        raise ValueError(f"the network fails in PyTorch itself ({_said(error)})") from error
    if not torch.allclose(found, expected, rtol=1e-3, atol=1e-3 * expected.abs().max().item()):
        raise ValueError(
            f"its torch.autograd.Function ({', '.join(own)}) has another gradient than what it "
            f"computes: leave that out, {_CALLBACK}"
        )


def _functions(last: Any) -> set[str]:
    """The names of the `torch.autograd.Function`s that led to a result."""
    seen, waiting, names = set(), [last], set()
    while waiting:
        step = waiting.pop()
        if step is not None and step not in seen:
            seen.add(step)
            waiting += [before for before, _ in step.next_functions]
            if hasattr(step, "_forward_cls"):  # PyTorch's own steps have none
                names.add(step._forward_cls.__name__)
    return names


def _draws(node: Any, name: str, torch: Any) -> bool:
    """Whether an operator draws random numbers; attention does only where it drops out."""
    if torch.Tag.nondeterministic_seeded not in getattr(node.target, "tags", ()):
        return False
    names = [argument.name for argument in node.target._schema.arguments]
    given = dict(zip(names, node.args, strict=False)) | node.kwargs
    return name not in aten.WHOLE or bool(given.get("dropout_p"))


def refuse_random(node: Any, name: str, torch: Any) -> None:
    """Random numbers, of a fixed shape too: drawn once they would be a weight."""
    if _draws(node, name, torch):
        raise ValueError(f"its operator {name} draws random numbers: is it in training mode?")


def _lies_alone(tensor: Any) -> bool:
    """Whether its values are all that lies in its memory, in the order that its shape says."""
    whole = tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()
    return tensor.is_contiguous() and tensor.storage_offset() == 0 and whole


def refuse_operator(node: Any, name: str, torch: Any) -> None:
    """What no translation could make a function of the image with a fixed shape."""
    strided = name == "aten.as_strided.default"
    if strided and not _lies_alone(node.args[0].meta["val"]):
        raise ValueError(
            f"its operator {name} looks at the memory of {node.args[0].name}, which does not lie "
            f"as its shape says: call .contiguous() before, {_CALLBACK}"
        )
    results = node.meta.get("val")
    for one in results if isinstance(results, list | tuple) else [results]:
        numbers = one.shape if isinstance(one, torch.Tensor) else [one]
        if any(isinstance(n, torch.SymInt | torch.SymFloat | torch.SymBool) for n in numbers):
            raise ValueError(
                f"its operator {name} makes a shape or number that the image decides: "
                f"leave it out, {_CALLBACK}"
            )


def refuse_mutations(exported: Any) -> None:
    """A `Predict` has no state."""
    specs = exported.graph_signature.output_specs
    names = [s.target for s in specs if s.kind.name in ("BUFFER_MUTATION", "PARAMETER_MUTATION")]
    if names:
        some = ", ".join(name.removeprefix("network.") for name in names[:3])
        some += ", …" if names[3:] else ""
        raise ValueError(
            f"the network changes its own buffers ({some}) for each image: "
            f"export it in evaluation mode, {_CALLBACK}"
        )


def refuse_output(exported: Any) -> None:
    """One image has one vector of logits."""
    (name,) = exported.graph_signature.user_outputs
    (value,) = [n.meta["val"] for n in exported.graph.nodes if n.name == name]
    shape = tuple(value.shape)
    if not value.dtype.is_floating_point or len(shape) > 2 or (len(shape) == 2 and shape[0] != 1):
        raise ValueError(
            f"the network returns {value.dtype} {shape} for one image, not logits (1, classes)"
        )


def refuse_missing(graph: aten.Graph) -> None:
    """All operators without a translation at once."""
    missing = aten.missing(graph)
    if missing:
        named = ", ".join(f"{name} ({count})" for name, count in missing.items())
        raise ValueError(
            f"it uses operators without a translation, {named}: leave them out, {_CALLBACK}"
        )
