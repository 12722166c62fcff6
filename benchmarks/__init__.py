"""Protocols, the sources of their data, and what came of them."""
