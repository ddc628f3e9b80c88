"""The options of `bfjax train` and `bfjax export`; nothing heavy is imported for a `--help`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Trains a classifier on the train split and evaluates it once on the test split.

    A part of the train split, split off by patient, chooses the epoch that is kept. Writes
    model.safetensors, config.json, log.csv and curves.png; an interrupted run started again with
    the same options goes on after its last saved step, and ends as if it had never stopped.
    """

    data: str = "chest_xray"
    """Data set: chest_xray, phantom, or a folder or zip file that holds train and test, each of
    class folders."""
    labels: Path | None = None
    """CSV file of the images' classes, in whatever folders they lie: file name, then a column of 0
    and 1 for each class."""
    class_names: tuple[str, ...] = ()
    """The classes in the order that the model's outputs get: the class folders, or those columns of
    --labels that are classes; none: in alphabetical order, numbers by number."""
    groups: Path | None = None
    """CSV file of the images' patients, where names do not tell them: file name, patient."""
    skip_bad: bool = False
    """Leave out files that cannot be read, listed in OUT/skipped-train.csv and -test.csv."""
    out: Path = Path("bfjax-model")
    """Folder for the checkpoint."""
    model: str = "mobilenet_v1"
    """Architecture: mobilenet_v1, mobilenet_v2, resnet50, densenet121 or convnet."""
    init: str | None = None
    """Weights to start from: a checkpoint's folder, a file (.npz, .h5, .safetensors), or
    hf:owner/repository; none: from scratch."""
    width: float = 1.0
    """Multiplies the channels of every layer."""
    dropout: float = 0.0
    """Share of features dropped before the classifier."""
    image_size: int = 224
    """Side of the images in pixels."""
    progressive: tuple[int, ...] = ()
    """Smaller sides in the first epochs, one number an epoch, such as 96 96 160."""
    resize: Literal["squash", "pad"] = "squash"
    """How images become square: squashed, or padded with black."""
    num_examples: int | None = None
    """Only so many training images (phantoms: as many as wanted)."""
    epochs: int = 3
    """Passes over the training images, the progressive ones among them."""
    batch_size: int = 32
    """Images of one step."""
    learning_rate: float = 3e-4
    """Peak of the schedule."""
    head_learning_rate: float | None = None
    """Peak for the classifier's last layer; none: the same as --learning-rate."""
    schedule: Literal["cosine", "one_cycle"] = "cosine"
    """How the rate rises to its peak: linearly, or along half a cosine; it falls along another."""
    warmup: float = 0.25
    """Share of the steps until that peak."""
    weight_decay: float = 0.01
    """AdamW's decay of kernels."""
    clip_norm: float = 1.0
    """Gradients are scaled down to this norm."""
    average: float = 0.0
    """Decay per step of the running average of the weights, which is then what is kept; 0: off."""
    label_smoothing: float = 0.0
    """Share of the target spread over all classes."""
    class_weights: bool = True
    """Weigh classes by the inverse of their frequency."""
    flip: bool = True
    """Mirror half of the images left to right."""
    shift: float = 0.08
    """Largest shift, as a share of the side."""
    rotation: float = 10.0
    """Largest rotation, in degrees."""
    scale: float = 0.15
    """Largest relative change of height and of width, each drawn alone."""
    brightness: float = 0.15
    """Largest change of brightness, in units of [0, 1]."""
    contrast: float = 0.3
    """Largest relative change of contrast."""
    bias_field: float = 0.0
    """Largest random smooth bias field, as |log B|, which makes the whole image brighter or darker
    too; 0 for none. --harden is light of the kind that bfjax audit tests."""
    harden: float | None = None
    """Learn each image under light that is hard for the network as it is by then: smooth, of at
    most this log-range (0.4: an uncorrected machine's); none: under no such light."""
    harden_steps: int = 1
    """Steps that make it hard, 0 to 3, each about one forward and backward pass more; 0: random
    light."""
    consistency: float | None = None
    """Learn the image X without light, and be consistent: weight of KL(f(X) || f(X under light)),
    as in TRADES, of light that raises the cross-entropy; none: learn it under the light alone."""
    noise_fields: float | None = None
    """Learn each image under random light, for certificates: standard deviation of the coefficients
    that bfjax.robustness.certify draws, such as 0.05; none: under no such light."""
    encoding: Literal["linear", "log"] = "linear"
    """What --harden and --noise-fields do to grey values: linear multiplies them, log is for X-rays
    made for reading, whose grey values fall with the logarithm of the exposure."""
    gamma: float = 0.29
    """Grey levels for a factor e of exposure, with --encoding log."""
    validation: float = 0.1
    """Share of the training images held out, by patient."""
    select: Literal["loss", "auc", "shifted"] = "loss"
    """Which validation score chooses the epoch that is kept; shifted: the loss after strong changes
    of geometry and contrast, which tells who bears new machines."""
    patience: int | None = None
    """Stop after so many epochs without a better one; none: never."""
    compute_dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Type of the activations in training; auto: bfloat16, but float32 on a CPU."""
    remat: bool = False
    """Take less memory and more time: compute the activations of each block once more for their
    gradient, and keep only what lies between the blocks (of which convnet has none). The search for
    hard light, --harden-steps, keeps them all."""
    save_minutes: float = 5.0
    """The run is saved after each epoch, and within one every so many minutes."""
    save_steps: int | None = None
    """The run is also saved every so many steps."""
    seed: int = 0
    """Seed of the weights, the split, the order and the augmentation."""
    verbose: bool = False
    """A line on stderr after each epoch."""
    dry_run: bool = False
    """Only estimate how long it would take and how much disk."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """Writes a checkpoint anew: smaller numbers, in several files.

    The new one is read back and evaluated beside the old one, and the change in accuracy printed.
    """

    model: Path
    """Folder of the checkpoint."""
    out: Path = Path("bfjax-export")
    """Folder for the new one."""
    dtype: Literal["float32", "float16"] = "float16"
    """What the weights are rounded to."""
    shard_size: str = "15MiB"
    """Largest size of one file, in B, kB, MB, GB, KiB, MiB or GiB."""
    data: str = "chest_xray"
    """Data set that both are evaluated on: chest_xray, phantom, or a folder of class folders."""
    split: str = "test"
    """Which split of it: train, val or test; all where there are no such folders."""
    labels: Path | None = None
    """CSV file of the images' classes: file name, then a column of 0 and 1 for each class."""
    num_images: int | None = None
    """Only so many images, drawn by --seed."""
    batch_size: int = 32
    """Images at once."""
    seed: int = 0
    """Seed of that drawing, and of the phantoms."""
    dry_run: bool = False
    """Only estimate how long it would take and how much disk."""
