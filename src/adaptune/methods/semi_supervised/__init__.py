"""Methods that learn from a few labelled images of a target and from many without labels."""
