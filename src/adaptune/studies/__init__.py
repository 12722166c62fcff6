"""Many runs: grids, comparisons, searches."""
