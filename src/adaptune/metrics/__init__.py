"""Tallies: what a set comes to, told batch by batch."""
