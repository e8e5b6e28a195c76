"""What makes a search faster and changes none of its answers: precision, memory format, CUDA graphs, fusion, timing."""
