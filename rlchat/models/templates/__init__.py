"""What chat templates write around messages, and what nobody's text may contain.

Nothing here knows token ids, but for which of them a tokenizer calls added; those are the work of
`rlchat.models.chat_template`. Start with `rendering`.
"""
