"""Search for hyper-parameters on ID validation."""

from adaptune.studies.search.study import Search, search, space

__all__ = ["Search", "search", "space"]
