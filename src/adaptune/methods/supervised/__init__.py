"""Methods that learn from labelled images of one or several domains."""
