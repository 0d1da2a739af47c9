"""Networks as graphs: neurons are nodes, weights are edges. ``wflib.graph.pyg`` exports them to PyTorch Geometric."""

from wflib.graph.blocks import EdgeBlock, GraphFeatures, NeuralGraph, from_blocks, neural_graph, to_blocks

__all__ = ["EdgeBlock", "GraphFeatures", "NeuralGraph", "from_blocks", "neural_graph", "to_blocks"]
