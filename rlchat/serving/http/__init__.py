"""Agents behind HTTP, as OpenAI's chat completions: wire formats, batching, keys, limits.

What a reply is worth, and conversations with environments, live in the room above. Start at app.py.
"""
