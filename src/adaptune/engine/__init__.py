"""Training: the loop, the one owner of optimisers, what goes wrong."""
