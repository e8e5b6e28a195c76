"""Norms, projections, random streams and exact binomial intervals."""
