"""Metrics and transcripts in experiment trackers, such as TensorBoard.

A run's own files are `rlchat.training.run_folder`. Start with `tracking`.
"""
