from .loading import Audited, load
from .making import make_page, of_page
from .ranking import Group, rank

__all__ = ["Audited", "Group", "load", "make_page", "of_page", "rank"]
