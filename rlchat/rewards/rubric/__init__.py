"""Rubrics: named questions about a conversation, which a language model answers as a judge.

What answers are worth beside the world's verdict is in `rlchat.evaluation.judged`.
Start with `questions`.
"""
