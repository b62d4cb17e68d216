"""What chat templates write around messages, and what nobody's text may contain.

What functions have to do with is in `tools`, `call_tokens` and `call_formats`. Token ids are the
work of `rlchat.models.chat_template`, but for those of calls. Start with `rendering`.
"""
