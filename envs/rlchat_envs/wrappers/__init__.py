"""Gymnasium wrappers around a dialogue environment.

What is looked up is in `rlchat_envs.knowledge`. Start at `knowledge.KnowledgeWrapper`.
"""
