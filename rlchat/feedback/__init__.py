"""Ratings of replies by people: the store, masking of personal data, exports and style.

Learning from it is in `rlchat.training`; asking for it is in `rlchat.cli`.
Start with `store`.
"""
