from .commands import COMMANDS, main
from .config import DemoConfig
from .demo import run_demo
from .options import as_toml, parse

__all__ = ["COMMANDS", "DemoConfig", "as_toml", "main", "parse", "run_demo"]
