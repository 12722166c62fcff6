"""Methods that learn from a few labelled images of a target."""
