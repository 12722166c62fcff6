"""Search for hyper-parameters on ID validation."""

from adaptune.search.study import Search, best_of, search, space, standing

__all__ = ["Search", "best_of", "search", "space", "standing"]
