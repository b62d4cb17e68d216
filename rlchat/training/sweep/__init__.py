"""Sweeps: several seeds of one setting or of each point of a grid, trained one after the other.

What one run does is `rlchat.training.pipeline`'s; what runs come to together is counted by
`rlchat.statistics.aggregates`. Start with `sweep`.
"""
