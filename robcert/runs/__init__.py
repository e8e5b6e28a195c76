"""A run: its plan, its directory, how it is executed, resumed and recorded."""
