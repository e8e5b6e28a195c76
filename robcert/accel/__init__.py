"""Acceleration of a search, which changes no answer: precision, memory format, CUDA graphs, fusion, timing."""
