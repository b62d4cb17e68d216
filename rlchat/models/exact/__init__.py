"""Whether a model computes here what it computes in transformers, and how long its rows may be.

Start with `compatibility`. What is computed lies beside this folder: `rlchat.models.attention`.
"""
