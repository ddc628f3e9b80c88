from . import attack as attack
from . import attacks as attacks
from . import data as data
from . import evaluation as evaluation
from . import explain as explain
from . import field as field
from . import memory as memory
from . import metrics as metrics
from . import models as models
from . import report as report
from . import robustness as robustness
from . import training as training
from .attack import finish, init, run, run_batch, step
from .field import (
    additive,
    bias_field,
    compose,
    free_log_field,
    pixelwise,
    polynomial_tps,
)
from .types import (
    Attack,
    AttackFlags,
    AttackInfo,
    AttackResult,
    AttackState,
    Field,
    Image,
    LinearField,
    Logits,
    Perturbation,
    Predict,
    Search,
    as_pytree,
)

__version__: str

__all__ = [
    "Attack",
    "AttackFlags",
    "AttackInfo",
    "AttackResult",
    "AttackState",
    "Field",
    "Image",
    "LinearField",
    "Logits",
    "Perturbation",
    "Predict",
    "Search",
    "additive",
    "as_pytree",
    "attack",
    "attacks",
    "bias_field",
    "compose",
    "data",
    "evaluation",
    "explain",
    "field",
    "finish",
    "free_log_field",
    "init",
    "memory",
    "metrics",
    "models",
    "pixelwise",
    "polynomial_tps",
    "report",
    "robustness",
    "run",
    "run_batch",
    "step",
    "training",
]
