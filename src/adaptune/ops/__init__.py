"""Pure functions that methods share; nothing here imports from above."""
