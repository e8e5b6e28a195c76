"""Training: recipes, objectives, the loop, and what it writes."""
