"""How fast a network's answer changes with its input: norms of gradients, vulnerability, and detection by them."""
