"""The options of `bfjax attack` and `bfjax evaluate`; nothing heavy is imported for a `--help`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal


@dataclasses.dataclass(frozen=True, kw_only=True)
class BiasFieldConfig:
    """The options of `bfjax.attacks.bias_field`, with the same defaults."""

    degree: int = 10
    """D of Eq. 4, the largest total degree of the polynomial."""
    min_degree: int = 1
    """D0 of Eq. 4; what it leaves out, --terms says."""
    grid_size: int = 16
    """Control points of the warp along each axis."""
    terms: Literal["literal", "count", "total"] = "literal"
    """Which monomials Eq. 4 keeps: t >= D0 and l >= D0; t >= D0; or t + l >= D0."""
    border: Literal["clamp", "free"] = "clamp"
    """Whether warped coordinates stay in the image or may leave it."""
    max_warp_gradient: float | None = 0.9
    """The warp's slopes stay below that, so that it does not fold; none: it may."""
    l1_coefficients: float = 0.1
    """Lambda_a, the weight of ||a||_1."""
    l1_warp: float = 0.0
    """Lambda_theta, the weight of ||theta - theta_0||_1."""
    reduction: Literal["sum", "mean"] = "sum"
    """How the norms add up."""
    step_size: float | None = None
    """Step of the coefficients, in units of the log field; none: 0.06, and within a bound on the
    log field, where no momentum is given, steps along the gradient in place of its signs."""
    warp_step_size: float | None = None
    """Step of the control points (the image is 2 wide); none: that of the coefficients."""
    decay: float | None = None
    """Momentum of the gradients, mu of MI-FGSM, which transfers better; none: the paper's."""
    num_steps: int | None = None
    """Iterations; none: 10, or 30 where the log field is bounded and no step size or momentum is
    given."""
    max_change: float | None = None
    """The attacked image stays within this distance of the original, in units of [0, 1]."""
    max_log_field: float | None = None
    """A bound on the absolute log field."""
    max_log_range: float | None = None
    """A bound on the largest log field less the smallest."""
    log_field_bound: Literal["project", "clip", "tanh"] = "project"
    """How a bound on the log field is held: project scales the coefficients; clip and tanh bend the
    field at each pixel, which leaves edges, and hold --max-log-field alone."""
    iterate: Literal["last", "best"] | None = None
    """Which iterate is kept; none: the last, or the best where the log field is bounded and no step
    size or momentum is given."""
    early_stop: bool = False
    """Leave an image as it is once it is fooled; another takes its place in the batch."""
    start_noise: float | None = None
    """Half-width of a random start around the identity; none starts at the identity."""
    offset: float | None = None
    """o of X_a = (X + o) exp(B) - o; none keeps black pixels black."""
    encoding: Literal["linear", "log"] = "linear"
    """What grey values are of the exposure: proportional (the image is multiplied by the field), or
    falling with its logarithm (a multiple of the log field is subtracted)."""
    gamma: float = 0.29
    """Grey levels, of [0, 1], for each factor e of the exposure, with --encoding log."""
    extent: tuple[float, float] = (-1.0, 1.0)
    """Coordinates of the first and the last pixel centre."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImagesConfig:
    """Which images, and what the models make of them."""

    data: str = "chest_xray"
    """Data set: chest_xray, phantom, one image, or a folder or zip of images or class folders."""
    split: str = "test"
    """Which split of it: train, val or test; all where there are no such folders."""
    label: str | None = None
    """Class, by name or number, of all images that lie in no class folders; none, or "predicted":
    for each image what the attacked model itself predicts."""
    labels: Path | None = None
    """CSV file of the images' classes, in whatever folders they lie: file name, then a column of 0
    and 1 for each class."""
    class_names: tuple[str, ...] = ()
    """The classes in the order of the model's outputs, where the model does not say them: the class
    folders, or those columns of --labels that are classes."""
    finding: str | None = None
    """Of a model whose outputs are findings (multi-label): the one that is attacked, by name or
    number, or "any": all of them count."""
    outputs: Literal["logits", "probabilities"] = "logits"
    """What the models return; probabilities, of a softmax or sigmoids, are turned back."""
    input_range: tuple[float, float] | Literal["xrv"] = (0.0, 1.0)
    """What the models expect for black and white, such as 0 255; xrv: -1024 1024, as the networks
    of torchxrayvision do."""
    mean: tuple[float, ...] = ()
    """What is subtracted after that: one number, or one a channel."""
    std: tuple[float, ...] = ()
    """What it is then divided by, likewise."""
    skip_bad: bool = False
    """Leave out files that cannot be read, listed in OUT/skipped.csv, in place of ending."""
    image_size: int | None = None
    """Side of the images in pixels, where a model does not say it."""
    batch_size: int = 16
    """Images that each device attacks at once."""
    num_images: int | None = None
    """Only so many images, drawn by --seed (phantoms: as many as wanted)."""
    seed: int = 0
    """Seed of whatever is random: a random start, the phantoms."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunConfig(ImagesConfig):
    """What `bfjax attack` and `bfjax evaluate` have in common."""

    measure: bool = True
    """Also measure BRISQUE, SSIM, PSNR, the fields, and success after saving as PNG and as JPEG."""
    dry_run: bool = False
    """Only estimate how long it would take and how much disk."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class AttackConfig(RunConfig, BiasFieldConfig):
    """Attacks every image of a data set with an adversarial bias field (Eq. 4-7).

    Writes summary.json, records.csv, shards/ (records and attack parameters) and gallery/. An
    interrupted run started again with the same options goes on where it stopped.
    """

    model: str
    """What is attacked: the folder of a checkpoint, a PyTorch (.pt2) or ONNX file, module:net for
    a PyTorch module, or module:function for a Python function from an image (h, w, 1) in [0, 1] to
    its logits."""
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
    target_class: str | None = None
    """Class that targeted attacks aim at, and whose own images are left out; none: for each image
    another than its own, drawn by --seed."""
    store_all: bool = False
    """Also store images whose attack has parameters as large; else a model that is added later has
    the attack made again."""
    out: Path = Path("bfjax-evaluate")
    """Folder for the results."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelsConfig(ImagesConfig):
    """What `bfjax audit` and `bfjax certify` have in common."""

    model: tuple[str, ...]
    """The models, each as for bfjax attack."""
    label: str | None = None
    """Class, by name or number, of all images that lie in no class folders."""
    finding: str | None = None
    """Of models whose outputs are findings (multi-label): the one that is tested, by name or
    number."""
    encoding: Literal["linear", "log"] = "linear"
    """What grey values are of the exposure: proportional, or falling with its logarithm."""
    gamma: float = 0.29
    """Grey levels, of [0, 1], for each factor e of the exposure, with --encoding log."""
    threshold: float = 0.5
    """Probability from which on the last of two classes is the answer."""
    sensitivity: float | None = None
    """In place of --threshold: the highest that keeps this sensitivity without light on these very
    images, which flatters it a little."""
    out: Path
    """Folder for the results."""
    dry_run: bool = False
    """Only estimate how long it would take and how much disk."""
