"""What a person sees of work that goes on: progress, time left, and what slows it.

Tables of what is finished are `rlchat.cli.tables`. Start with `progress`.
"""
