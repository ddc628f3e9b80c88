"""What an attack did: success and transfer rates."""

from bfjax.metrics.success import SuccessRate, success_rate

__all__ = ["SuccessRate", "success_rate"]
