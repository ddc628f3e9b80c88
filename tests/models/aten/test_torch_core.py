"""Every operator of PyTorch's core set is translated, or left out for a reason."""

import inspect

import pytest

from bfjax.models.aten import (
    activations,
    arithmetic,
    attention,
    creation,
    fourier,
    indexing,
    padding,
    products,
    reductions,
    resizing,
    sampling,
    shapes,
    slices,
    sorting,
)
from tests.models.parity import import_torch

OURS = (
    activations, arithmetic, attention, creation, fourier, indexing, padding, products,
    reductions, resizing, sampling, shapes, slices, sorting,
)  # fmt: skip
TABLE = {name: function for module in OURS for name, function in module.OPERATORS.items()}

LEFT_OUT = {
    "a convolution, a norm or a pool, which have tables of their own": (
        "_adaptive_avg_pool2d.default _native_batch_norm_legit.default "
        "_native_batch_norm_legit.no_stats _native_batch_norm_legit_no_training.default "
        "adaptive_avg_pool1d.default avg_pool1d.default avg_pool2d.default convolution.default "
        "max_pool2d_with_indices.default native_group_norm.default native_layer_norm.default"
    ),
    "of volumes": (
        "_adaptive_avg_pool3d.default avg_pool3d.default max_pool3d_with_indices.default "
        "reflection_pad3d.default replication_pad3d.default"
    ),
    "a backward pass, which JAX derives": (
        "_adaptive_avg_pool2d_backward.default avg_pool2d_backward.default "
        "convolution_backward.default embedding_dense_backward.default "
        "max_pool2d_with_indices_backward.default native_group_norm_backward.default "
        "native_layer_norm_backward.default"
    ),
    "random": "native_dropout.default rand.default randn.default randperm.default",
    "its shape or value depends on the data": "_local_scalar_dense.default nonzero.default",
    "a shape that is not known beforehand": (
        "sym_is_contiguous.default sym_numel.default sym_size.int sym_storage_offset.default "
        "sym_stride.int"
    ),
    "in place, which no functional graph is": "atan2.out resize_.default",
    "bags of words, not images": "_embedding_bag.default",
}


def _core():
    """Names of the operators that PyTorch tags as core."""
    torch = import_torch()
    for full in torch._C._dispatch_get_all_op_names():
        name, _, overload = full.removeprefix("aten::").partition(".")
        packet = getattr(torch.ops.aten, name, None) if full.startswith("aten::") else None
        operator = getattr(packet, overload or "default", None)
        if operator is not None and torch.Tag.core in operator.tags:
            yield f"aten.{name}.{overload or 'default'}"


def test_every_core_operator_of_torch_is_accounted_for():
    left_out = {f"aten.{name}" for names in LEFT_OUT.values() for name in names.split()}
    core = set(_core())
    assert len(core) > 150
    assert core - set(TABLE) == left_out
    assert not left_out & set(TABLE)


@pytest.mark.parametrize("name", TABLE)
def test_the_arguments_of_a_schema_of_torch_are_taken(name):
    """As many by place, and those that only a keyword gives by their keyword."""
    torch = import_torch()
    _, packet, overload = name.split(".")
    schema = getattr(getattr(torch.ops.aten, packet), overload)._schema
    memory = ("layout", "device", "pin_memory", "memory_format")  # dropped by the reader of graphs
    arguments = [a for a in schema.arguments if a.name not in memory]
    by_place = [a.name for a in arguments if not a.kwarg_only]
    by_name = {a.name: None for a in arguments if a.kwarg_only}
    inspect.signature(TABLE[name]).bind(*by_place, **by_name)
    fewest = [a.name for a in arguments if not a.kwarg_only and not a.has_default_value()]
    needed = {a.name: None for a in arguments if a.kwarg_only and not a.has_default_value()}
    inspect.signature(TABLE[name]).bind(*fewest, **needed)


def test_operators_that_look_at_no_axis_are_in_a_table():
    assert set(TABLE) >= arithmetic.ELEMENTWISE
