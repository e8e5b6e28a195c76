"""The command line; one file a command. No file here imports torch at module level."""
