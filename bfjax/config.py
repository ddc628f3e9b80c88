"""The options of the commands, as dataclasses; nothing heavy is imported to show a `--help`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

import tyro


@dataclasses.dataclass(frozen=True, kw_only=True)
class BiasFieldConfig:
    """The options of `bfjax.attacks.bias_field`, with the same defaults."""

    degree: int = 10
    """D of Eq. 4, the largest total degree of the polynomial."""
    min_degree: int = 1
    """D0 of Eq. 4: lower degrees are left out."""
    grid_size: int = 16
    """Control points of the warp along each axis."""
    terms: Literal["literal", "count", "total"] = "literal"
    """Which monomials Eq. 4 keeps: t >= D0 and l >= D0; t >= D0; or t + l >= D0."""
    l1_coefficients: float = 0.1
    """Lambda_a, the weight of ||a||_1."""
    l1_warp: float = 0.0
    """Lambda_theta, the weight of ||theta - theta_0||_1."""
    reduction: Literal["sum", "mean"] = "sum"
    """How the norms add up."""
    step_size: float = 0.06
    """Step of the coefficients, in units of the log field."""
    warp_step_size: float | None = None
    """Step of the control points (the image is 2 wide); none: the same as --step-size."""
    decay: float = 0.0
    """Momentum of the gradients, mu of MI-FGSM, which transfers better; 0 is the paper's step."""
    num_steps: int = 10
    """Iterations."""
    max_change: float | None = 0.1
    """The attacked image stays within this distance of the original, in units of [0, 1]."""
    max_log_field: float | None = None
    """A bound on the absolute log field."""
    log_field_bound: Literal["clip", "project"] = "clip"
    """How that bound is held: clipped at each pixel, or by scaling the coefficients."""
    iterate: Literal["last", "best"] = "last"
    """Which iterate is kept."""
    early_stop: bool = False
    """Leave an image as it is once it is fooled; another takes its place in the batch."""
    start_noise: float = 0.0
    """Half-width of a random start around the identity; 0 starts at the identity."""
    offset: float = 0.0
    """o of X_a = (X + o) exp(B) - o; 0 keeps black pixels black."""
    extent: tuple[float, float] = (-1.0, 1.0)
    """Coordinates of the first and the last pixel centre."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunConfig:
    """What `bfjax attack` and `bfjax evaluate` have in common."""

    data: str = "chest_xray"
    """Data set: chest_xray, phantom, one image, or a folder or zip of images or class folders."""
    split: str = "test"
    """Which split of it."""
    label: str | None = None
    """Class, by name or number, of all images that lie in no class folders; none, or "predicted":
    for each image what the attacked model itself predicts."""
    image_size: int | None = None
    """Side of the images in pixels, where a model does not say it."""
    batch_size: int = 16
    """Images that each device attacks at once."""
    num_images: int | None = None
    """Only so many images, drawn by --seed (phantoms: as many as wanted)."""
    seed: int = 0
    """Seed of whatever is random: a random start, the phantoms."""
    measure: bool = True
    """Also measure BRISQUE, SSIM, PSNR, smoothness, and success after saving as PNG and as JPEG."""
    dry_run: bool = False
    """Only estimate how long it would take and how much disk."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class AttackConfig(RunConfig, BiasFieldConfig):
    """Attacks every image of a data set with an adversarial bias field (Eq. 4-7).

    Writes summary.json, records.csv, shards/ (records and attack parameters) and gallery/. An
    interrupted run started again with the same options goes on where it stopped.
    """

    model: str
    """What is attacked: the folder of a checkpoint, an ONNX file, or module:function for a Python
    function from an image (h, w, 1) in [0, 1] to its logits."""
    targets: tuple[str, ...] = ()
    """Further models that judge the same adversarial images (transfer)."""
    out: Path = Path("bfjax-attack")
    """Folder for the results."""
    gallery: int = 12
    """Cases drawn into gallery/; 0 for none."""
    native: bool = False
    """Also write the attacked images in the originals' size into adversarial/, as 16-bit PNG or
    derived DICOM, and judge them as read back (native.json). May be added to a finished run."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluateConfig(RunConfig):
    """Makes attacks on many models and has all of them judge each: the transfer matrices.

    Writes OUT/ATTACK/SOURCE/, each like the folder of `bfjax attack`, and OUT/summary.json. An
    interrupted run goes on where it stopped; attacks, and models that judge, may be added later.
    """

    sources: tuple[str, ...] = ()
    """Models that are attacked and that judge, each as for bfjax attack; a+b attacks the mean of
    the logits of a and b."""
    targets: tuple[str, ...] = ()
    """Further models that only judge."""
    attacks: dict[str, str] = dataclasses.field(default_factory=dict)
    """Names and functions of bfjax.attacks, such as: ours bias_field strong "bim(epsilon=0.2)"."""
    store_all: bool = False
    """Also store images whose attack has parameters as large; else later judges attack anew."""
    out: Path = Path("bfjax-evaluate")
    """Folder for the results."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class DemoConfig:
    """Trains a small classifier on procedural chest phantoms, attacks it, draws the attacks.

    Needs no download and three minutes on two cores. An interrupted demo goes on where it stopped.
    """

    out: Path = Path("bfjax-demo")
    """Folder for the checkpoint (model/) and the results (attack/)."""
    seed: int = 0
    """Seed of the phantoms and of the training."""
    dry_run: bool = False
    """Only estimate how long it would take and how much disk."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Trains a classifier on the train split and evaluates it once on the test split.

    A part of the train split, split off by patient, chooses the epoch that is kept. Writes
    model.safetensors, config.json, log.csv and curves.png; an interrupted run started again with
    the same options goes on after its last saved step, and ends as if it had never stopped.
    """

    data: str = "chest_xray"
    """Data set: chest_xray, phantom, or a folder of class folders."""
    out: Path = Path("bfjax-model")
    """Folder for the checkpoint."""
    model: str = "mobilenet_v1"
    """Architecture."""
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
    """Largest random smooth bias field, as |log B|; 0 for none."""
    validation: float = 0.1
    """Share of the training images held out, by patient."""
    select: Literal["loss", "auc", "shifted"] = "loss"
    """Which validation score chooses the epoch that is kept; shifted: the loss after strong changes
    of geometry and contrast, which tells who bears new machines."""
    patience: int | None = None
    """Stop after so many epochs without a better one; none: never."""
    compute_dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Type of the activations in training; auto: bfloat16, but float32 on a CPU."""
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
    """Which split of it."""
    num_images: int | None = None
    """Only so many images, drawn by --seed."""
    batch_size: int = 32
    """Images at once."""
    seed: int = 0
    """Seed of that drawing, and of the phantoms."""
    dry_run: bool = False
    """Only estimate how long it would take and how much disk."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReportConfig:
    """Makes one web page of what `bfjax attack` or `bfjax evaluate` wrote.

    The page needs no network and no server. Where its pictures would make it larger than 20 MB
    they lie beside it, in report-files/.
    """

    dir: tyro.conf.Positional[Path]
    """Folder of the results."""
    out: Path | None = None
    """The page; none: report.html in that folder."""
    max_cases: int | None = None
    """Draw only so many cases, about three in four of them fooled; 0 leaves the gallery out."""
    data: str | None = None
    """Where the images lie; none: where they lay when they were attacked."""
    dry_run: bool = False
    """Only estimate how long it would take and how much disk."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExplainConfig:
    """Maps the regions through which a finished attack works (Eq. 8), for the images it fooled.

    Writes shards/ (a map an image), summary.json, mean_map.png and gallery/. An interrupted run
    started again with the same options goes on where it stopped.
    """

    dir: tyro.conf.Positional[Path]
    """Folder of the results: of `bfjax attack`, or OUT/ATTACK/SOURCE of `bfjax evaluate`."""
    model: str
    """The model that was attacked, as for bfjax attack: the folder of a checkpoint."""
    data: str | None = None
    """Where the images lie; none: where they lay when they were attacked."""
    out: Path | None = None
    """Folder for the maps; none: explain/ in the folder of the results."""
    batch_size: int = 16
    """Images explained at once."""
    num_images: int | None = None
    """Only so many of the images that were fooled, drawn by --seed."""
    num_steps: int = 150
    """Iterations."""
    l1: float = 0.05
    """Lambda_1, the weight of ||M||_1."""
    tv: float = 0.2
    """Lambda_2, the weight of TV(M)."""
    mask_size: int = 28
    """Rows and columns of the mask, which is scaled up to the image."""
    start: float = 1.0
    """The mask at the start, everywhere: 1 is the whole attack, 0 the clean image."""
    score: Literal["probability", "logit"] = "probability"
    """DNN_y, the true label's score, which the mask lowers."""
    reduction: Literal["mean", "sum"] = "mean"
    """How the norms add up."""
    tv_exponent: float = 3.0
    """Exponent of the differences in TV(M)."""
    step_size: float = 0.1
    """Step of Adam."""
    num_points: int = 21
    """Points of each deletion and insertion curve."""
    gallery: int = 6
    """Maps drawn into gallery/; 0 for none."""
    seed: int = 0
    """Seed of that drawing, and of the random maps that the curves are compared with."""
    dry_run: bool = False
    """Only estimate how long it would take and how much disk."""
