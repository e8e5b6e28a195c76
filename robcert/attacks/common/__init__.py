"""What several attacks share; no attacks."""
