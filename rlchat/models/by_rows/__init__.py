"""Models that are run row by row through transformers' own forward and caches.

Slower than packing, and exact for whatever is causal: `padding` is how they train, `states` how
they are sampled from. Whether a model needs this is decided in `rlchat.models.exact`.
"""
