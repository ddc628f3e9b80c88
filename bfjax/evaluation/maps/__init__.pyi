from .commands import explain, explain_attack
from .config import ExplainConfig
from .gallery import COLOURS, blended, draw_thirds
from .summary import CONTROLS, Maps, batches, gather, ratio

__all__ = [
    "COLOURS",
    "CONTROLS",
    "ExplainConfig",
    "Maps",
    "batches",
    "blended",
    "draw_thirds",
    "explain",
    "explain_attack",
    "gather",
    "ratio",
]
