"""The graph of operators that a network executes: exported once, for any number of images, and read by every analysis.

`robcert.graph.read` has the graph, `robcert.graph.call` one operator of it with its arguments, and
`robcert.graph.batch` where the images lie in every value: an operator that lets one image see another is refused there.
"""
