from .commands import audit, audit_models, of_audits
from .config import AuditConfig
from .figure import panels
from .summary import SCHEMA, curve, range_taken

__all__ = [
    "SCHEMA",
    "AuditConfig",
    "audit",
    "audit_models",
    "curve",
    "of_audits",
    "panels",
    "range_taken",
]
