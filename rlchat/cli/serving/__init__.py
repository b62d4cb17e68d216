"""Verbs `serve …`: agents behind HTTP. The server itself is in rlchat/serving/http."""
