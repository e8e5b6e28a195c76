"""The verdict of a gate, one file a format."""
