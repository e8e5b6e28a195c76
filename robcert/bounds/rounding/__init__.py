"""Rounding errors of the executed network."""
