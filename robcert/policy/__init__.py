"""Policies: what a team asks of its models, read from TOML, and the evaluation that answers it."""
