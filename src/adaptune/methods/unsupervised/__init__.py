"""Methods that learn from labelled images and from images of a target without labels."""
