"""Knowledge for the agent: retrieval over documents, and look-up in a knowledge graph.

Importing this loads neither a neural network nor the libraries of search and graphs.
"""

from rlchat_envs.core.facts import Document, Triple
from rlchat_envs.knowledge.documents import read_folder
from rlchat_envs.knowledge.graph import Graph
from rlchat_envs.knowledge.lookup import DocumentLookup, GraphLookup, Lookup
from rlchat_envs.knowledge.retrieval import Bm25Index, DenseIndex, HybridIndex, Index, fuse
from rlchat_envs.knowledge.triples import read_triples

__all__ = [
    "Bm25Index",
    "DenseIndex",
    "Document",
    "DocumentLookup",
    "Graph",
    "GraphLookup",
    "HybridIndex",
    "Index",
    "Lookup",
    "Triple",
    "fuse",
    "read_folder",
    "read_triples",
]
