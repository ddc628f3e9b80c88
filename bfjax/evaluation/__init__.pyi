from . import gallery as gallery
from . import maps as maps
from .accuracy import Metrics, describe, evaluate_classifier, tabulate
from .commands import attack, attack_cell, attack_dataset, evaluate, evaluate_models
from .config import AttackConfig, BiasFieldConfig, EvaluateConfig
from .estimate import of_cell
from .failures import happened
from .finished import Rebuilt, Run, load_run
from .flags import flags_in_words
from .matching import among_classes, check_outputs, say_empty_classes
from .meaning import ZERO_IF_ABSENT, completed, in_todays_words, noted, same_attack
from .skipping import BadFilesError, all_bad_files, without_bad_files
from .specification import parse_attack

__all__ = [
    "ZERO_IF_ABSENT",
    "AttackConfig",
    "BadFilesError",
    "BiasFieldConfig",
    "EvaluateConfig",
    "Metrics",
    "Rebuilt",
    "Run",
    "all_bad_files",
    "among_classes",
    "attack",
    "attack_cell",
    "attack_dataset",
    "check_outputs",
    "completed",
    "describe",
    "evaluate",
    "evaluate_classifier",
    "evaluate_models",
    "flags_in_words",
    "gallery",
    "happened",
    "in_todays_words",
    "load_run",
    "maps",
    "noted",
    "of_cell",
    "parse_attack",
    "same_attack",
    "say_empty_classes",
    "tabulate",
    "without_bad_files",
]
