"""Agents that play in every scenario, for comparison.

Experts and demonstrators belong to scenarios. Start at `retrieval.RetrievalAgent`.
"""
