"""Models by name: what they are, where they come from, and how they are kept on this machine.

Loading them into memory is `rlchat.models.loading`. Start with `catalog`.
"""
