"""Sensitivity of a network's answer to its input: norms of gradients, vulnerability, and detection by them."""
