"""Named data sets; one file a source, each registered by its decorator."""
