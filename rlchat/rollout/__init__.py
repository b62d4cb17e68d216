"""rlchat.rollout.collect."""
