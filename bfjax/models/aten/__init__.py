"""PyTorch's exported graphs in JAX: `Graph` and `Node` describe one, `run` computes it.

`prepare` folds batch norms and lays out weights; `missing` says which operators have no
translation, `WHOLE` names those that are not to be decomposed. Nothing here imports PyTorch.
"""

from bfjax.models.aten.fusion import prepare
from bfjax.models.aten.graph import Graph, Node, Value
from bfjax.models.aten.interpreter import call, missing, run
from bfjax.models.aten.operators import WHOLE

__all__ = ["WHOLE", "Graph", "Node", "Value", "call", "missing", "prepare", "run"]
