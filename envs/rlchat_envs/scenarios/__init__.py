"""The scenarios that come with rlchat, a folder each; none knows another."""
