from . import gallery as gallery
from . import maps as maps
from .accuracy import Metrics, describe, evaluate_classifier, tabulate
from .commands import attack, attack_cell, attack_dataset, evaluate, evaluate_models
from .config import AttackConfig, BiasFieldConfig, EvaluateConfig
from .estimate import of_cell
from .finished import Rebuilt, Run, load_run
from .specification import parse_attack
from .targets import happened

__all__ = [
    "AttackConfig",
    "BiasFieldConfig",
    "EvaluateConfig",
    "Metrics",
    "Rebuilt",
    "Run",
    "attack",
    "attack_cell",
    "attack_dataset",
    "describe",
    "evaluate",
    "evaluate_classifier",
    "evaluate_models",
    "gallery",
    "happened",
    "load_run",
    "maps",
    "of_cell",
    "parse_attack",
    "tabulate",
]
