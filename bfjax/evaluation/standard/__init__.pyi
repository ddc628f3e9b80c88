from .commands import audit, audit_models
from .config import AuditConfig
from .summary import SCHEMA, curve, range_taken

__all__ = [
    "SCHEMA",
    "AuditConfig",
    "audit",
    "audit_models",
    "curve",
    "range_taken",
]
