"""Runs attacks: the loop, the slots, verification and what a sweep says."""
