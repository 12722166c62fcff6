"""Bodies and heads: built, changed, saved, opened."""
