"""Search for hyper-parameters on ID validation."""

from adaptune.studies.search.study import Search, best_of, search, space, trial_order

__all__ = ["Search", "best_of", "search", "space", "trial_order"]
