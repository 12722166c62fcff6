"""Methods that learn from what finished networks say."""
