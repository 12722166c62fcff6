"""Layers that methods put into networks."""
