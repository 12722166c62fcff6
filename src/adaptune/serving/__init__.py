"""Pages that people use in a browser, served on this machine alone."""
