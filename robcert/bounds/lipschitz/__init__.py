"""Linear operators and their norms; rules per op; the Lipschitz bound of a whole graph."""
