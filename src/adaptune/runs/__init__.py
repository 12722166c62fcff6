"""One run: its folder, its set-up, its epochs, its results."""
