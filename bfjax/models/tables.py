"""The layers of each network under the names of torchvision, timm and Keras, a row a layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from bfjax.models.densenet import DenseNet121
from bfjax.models.foreign_layers import Arrays, Entry, Row, conv_norm, keras_entries, torch_entries
from bfjax.models.mobilenet_v2 import InvertedResidual, MobileNetV2
from bfjax.models.resnet import ResNet50


def _resnet50_torch(model: ResNet50, _: Arrays) -> Iterator[Row]:
    """The names of torchvision and timm."""
    yield from conv_norm("stem", "conv1", "bn1")
    for s, stage in enumerate(model.stages):
        for b, block in enumerate(stage):
            ours, theirs = f"stages/{s}/{b}", f"layer{s + 1}.{b}"
            for i, name in enumerate(("reduce", "convolve", "expand"), start=1):
                yield from conv_norm(f"{ours}/{name}", f"{theirs}.conv{i}", f"{theirs}.bn{i}")
            if block.shortcut is not None:
                down = f"{theirs}.downsample"
                yield from conv_norm(f"{ours}/shortcut", f"{down}.0", f"{down}.1")
    yield Row("head", "fc", "dense")


def _resnet50_keras(model: ResNet50, _: Arrays) -> Iterator[Row]:
    """In Keras' order, by depth: a block's shortcut is as deep as its last convolution."""
    yield from conv_norm("stem", "conv1_conv", "conv1_bn")
    for s, stage in enumerate(model.stages):
        for b, block in enumerate(stage):
            ours, theirs = f"stages/{s}/{b}", f"conv{s + 2}_block{b + 1}"
            for i, name in enumerate(("reduce", "convolve", "shortcut", "expand"), start=1):
                i = {"shortcut": 0, "expand": 3}.get(name, i)
                if name != "shortcut" or block.shortcut is not None:
                    layer = f"{theirs}_{i}"
                    yield from conv_norm(f"{ours}/{name}", f"{layer}_conv", f"{layer}_bn")
    yield Row("head", ("predictions", "probs"), "dense")


def _densenet121_torch(model: DenseNet121, _: Arrays) -> Iterator[Row]:
    """The names of torchvision and timm; the second ones are those of files of before 2018."""
    yield from conv_norm("stem", "features.conv0", "features.norm0")
    for b, block in enumerate(model.blocks):
        for i in range(len(block)):
            ours, theirs = f"blocks/{b}/{i}", f"features.denseblock{b + 1}.denselayer{i + 1}"
            norm1, conv1, norm2, conv2 = (
                (f"{theirs}.{name}{n}", f"{theirs}.{name}.{n}")
                for n in (1, 2)
                for name in ("norm", "conv")
            )
            yield Row(f"{ours}/preactivation/norm", norm1, "norm")
            yield from conv_norm(f"{ours}/reduce", conv1, norm2)
            yield Row(f"{ours}/grow", conv2, "conv")
    for t in range(len(model.transitions)):
        ours, theirs = f"transitions/{t}", f"features.transition{t + 1}"
        yield Row(f"{ours}/preactivation/norm", f"{theirs}.norm", "norm")
        yield Row(f"{ours}/reduce", f"{theirs}.conv", "conv")
    yield Row("preactivation/norm", "features.norm5", "norm")
    yield Row("head", "classifier", "dense")


def _densenet121_keras(model: DenseNet121, _: Arrays) -> Iterator[Row]:
    """In Keras' order; the second names are those of the files published for Keras 2."""
    yield from conv_norm("stem", ("conv1_conv", "conv1/conv"), ("conv1_bn", "conv1/bn"))
    for b, block in enumerate(model.blocks):
        if b > 0:
            ours, theirs = f"transitions/{b - 1}", f"pool{b + 1}"
            yield Row(f"{ours}/preactivation/norm", f"{theirs}_bn", "norm")
            yield Row(f"{ours}/reduce", f"{theirs}_conv", "conv")
        for i in range(len(block)):
            ours, theirs = f"blocks/{b}/{i}", f"conv{b + 2}_block{i + 1}"
            yield Row(f"{ours}/preactivation/norm", f"{theirs}_0_bn", "norm")
            yield from conv_norm(f"{ours}/reduce", f"{theirs}_1_conv", f"{theirs}_1_bn")
            yield Row(f"{ours}/grow", f"{theirs}_2_conv", "conv")
    yield Row("preactivation/norm", "bn", "norm")
    yield Row("head", ("predictions", "fc1000"), "dense")


def _mobilenet_v2_torch(model: MobileNetV2, arrays: Arrays) -> Iterator[Row]:
    """The names of torchvision, or of timm."""
    if "conv_stem.weight" in arrays:
        yield from _mobilenet_v2_timm(model)
        return
    yield from conv_norm("stem", "features.0.0", "features.0.1")
    b = 0
    for b, (ours, block) in enumerate(_blocks(model), start=1):
        for i, (name, kind) in enumerate(_layers(block)):
            theirs = f"features.{b}.conv"
            # layers that relu6 follows are wrapped, the last one is not
            conv, norm = (f"{i}", f"{i + 1}") if name == "project" else (f"{i}.0", f"{i}.1")
            yield from conv_norm(f"{ours}/{name}", f"{theirs}.{conv}", f"{theirs}.{norm}", kind)
    yield from conv_norm("last", f"features.{b + 1}.0", f"features.{b + 1}.1")
    yield Row("head", "classifier.1", "dense")


def _mobilenet_v2_timm(model: MobileNetV2) -> Iterator[Row]:
    yield from conv_norm("stem", "conv_stem", "bn1")
    for ours, block in _blocks(model):
        theirs = ours.replace("stages", "blocks").replace("/", ".")
        names = ("conv_pw", "conv_dw", "conv_pwl") if block.expand else ("conv_dw", "conv_pw")
        for i, (name, kind) in enumerate(_layers(block)):
            conv, norm = f"{theirs}.{names[i]}", f"{theirs}.bn{i + 1}"
            yield from conv_norm(f"{ours}/{name}", conv, norm, kind)
    yield from conv_norm("last", "conv_head", "bn2")
    yield Row("head", "classifier", "dense")


def _mobilenet_v2_keras(model: MobileNetV2, _: Arrays) -> Iterator[Row]:
    yield from conv_norm("stem", "Conv1", "bn_Conv1")
    for b, (ours, block) in enumerate(_blocks(model)):
        for name, kind in _layers(block):
            layer = f"block_{b}_{name}" if b else f"expanded_conv_{name}"
            yield from conv_norm(f"{ours}/{name}", layer, f"{layer}_BN", kind)
    yield from conv_norm("last", "Conv_1", "Conv_1_bn")
    yield Row("head", ("predictions", "Logits"), "dense")


def _layers(block: InvertedResidual) -> Iterator[tuple[str, str]]:
    """The layers of an inverted residual and their kinds, in order."""
    if block.expand is not None:
        yield "expand", "conv"
    yield from (("depthwise", "depthwise"), ("project", "conv"))


def _blocks(model: MobileNetV2) -> Iterator[tuple[str, Any]]:
    """Each block with our name for it."""
    for s, stage in enumerate(model.stages):
        for b, block in enumerate(stage):
            yield f"stages/{s}/{b}", block


Table = Callable[[Any, Arrays], Iterator[Entry]]


def _tables(torch: Callable, keras: Callable, *, bgr: bool = False) -> dict[str, Table]:
    """A network's tables by the layout of the file."""
    return {
        "torch": lambda m, a: torch_entries(m, torch(m, a), a),
        "keras_named": lambda m, a: keras_entries(m, keras(m, a), a, numbered=False, bgr=bgr),
        "keras_numbered": lambda m, a: keras_entries(m, keras(m, a), a, numbered=True, bgr=bgr),
    }


TABLES: dict[str, dict[str, Table]] = {
    "densenet121": _tables(_densenet121_torch, _densenet121_keras),
    "mobilenet_v2": _tables(_mobilenet_v2_torch, _mobilenet_v2_keras),
    "resnet50": _tables(_resnet50_torch, _resnet50_keras, bgr=True),
}
"""Architecture, layout of the file: the table, from the model and the file's arrays."""
