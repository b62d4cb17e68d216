"""Agents, which produce the next message, and the engines that sample it from a model.

Environments and episodes are in `rlchat.rollout`; weights and templates in `rlchat.models`.
Start with `agents` (the protocol), then `decoder` (sampling many conversations at once).
"""
