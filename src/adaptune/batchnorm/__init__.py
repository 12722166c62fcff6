"""The heart of DAFT: batch norms found, measured, converted."""
