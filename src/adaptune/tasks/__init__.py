"""What is predicted, one task a file."""
