"""The ops of ONNX in torch; one file a family, one registered function an op and form, or a row of a table.

A function takes a `robcert.network.onnx_import.node.Node` and returns ``apply(layer, *arguments)``, where the layer
is an ``nn.Module`` or a function of torch, or a value that is known already::

    @op("Relu", 6, 13, 14)
    def relu(node: Node) -> Apply: ...

Layers of torch are preferred (Conv2d, Linear, BatchNorm2d): folding, Lipschitz bounds and the rounding analysis know
them, in graphs that torch wrote and in these.
"""
