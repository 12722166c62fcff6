"""Methods that begin at a trained network and see a target without labels, not the source."""
