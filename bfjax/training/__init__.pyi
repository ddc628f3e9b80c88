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
from .plan import Plan
from .resume import is_finished

__all__ = [
    "Augmentation",
    "ExportConfig",
    "Exported",
    "Plan",
    "TrainConfig",
    "augment",
    "export",
    "export_checkpoint",
    "fit",
    "is_finished",
    "make_plan",
    "of_training",
    "train",
    "train_classifier",
]
