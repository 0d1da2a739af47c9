"""Networks as graphs of neurons."""

from wflib.graph.features import GraphFeatures
from wflib.graph.neural_graph import EdgeBlock, NeuralGraph, NodeGroup, neural_graph

__all__ = ["EdgeBlock", "GraphFeatures", "NeuralGraph", "NodeGroup", "neural_graph"]
