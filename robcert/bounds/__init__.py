"""Bounds of operators and of networks made of them: Lipschitz constants, linear bounds, rounding errors."""
