from .commands import audit, audit_models, audit_runs, of_audits
from .config import AuditConfig
from .figure import panels
from .finished import (
    NODES,
    UNEVEN,
    Answer,
    Images,
    Light,
    audited_images,
    log_field_at_nodes,
    range_in_words,
    read_audit,
    turning_lights,
)
from .printed import gain_in_points
from .summary import SCHEMA, curve, range_taken

__all__ = [
    "NODES",
    "SCHEMA",
    "UNEVEN",
    "Answer",
    "AuditConfig",
    "Images",
    "Light",
    "audit",
    "audit_models",
    "audit_runs",
    "audited_images",
    "curve",
    "gain_in_points",
    "log_field_at_nodes",
    "of_audits",
    "panels",
    "range_in_words",
    "range_taken",
    "read_audit",
    "turning_lights",
]
