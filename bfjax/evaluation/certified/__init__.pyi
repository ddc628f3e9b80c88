from .commands import certify, certify_models, certify_runs, of_certificates
from .config import CertifyConfig
from .figure import panels
from .finished import read_certificates
from .summary import KINDS, RMS_AND_RANGE, SCHEMA

__all__ = [
    "KINDS",
    "RMS_AND_RANGE",
    "SCHEMA",
    "CertifyConfig",
    "certify",
    "certify_models",
    "certify_runs",
    "of_certificates",
    "panels",
    "read_certificates",
]
