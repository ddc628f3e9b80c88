from .augmentation import Augmentation, augment
from .commands import (
    export,
    export_checkpoint,
    fit,
    make_plan,
    train,
    train_classifier,
)
from .config import ExportConfig, TrainConfig
from .estimate import of_training
from .exported import Exported
from .hardening import Hardening
from .patients import split_source
from .plan import Plan
from .resume import is_finished

__all__ = [
    "Augmentation",
    "ExportConfig",
    "Exported",
    "Hardening",
    "Plan",
    "TrainConfig",
    "augment",
    "export",
    "export_checkpoint",
    "fit",
    "is_finished",
    "make_plan",
    "of_training",
    "split_source",
    "train",
    "train_classifier",
]
