"""How a file becomes what a network reads."""
