from .commands import explain, explain_attack
from .config import ExplainConfig
from .gallery import COLOURS, blended, draw_thirds
from .summary import CONTROLS, Maps, as_maps, gather, map_of, ratio

__all__ = [
    "COLOURS",
    "CONTROLS",
    "ExplainConfig",
    "Maps",
    "as_maps",
    "blended",
    "draw_thirds",
    "explain",
    "explain_attack",
    "gather",
    "map_of",
    "ratio",
]
