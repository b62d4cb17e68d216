"""How the code of an environment is found, made, called and read, whoever wrote it.

What an agent meets is `rlchat.rollout.environment`, which is above this. Start with `making`.
"""
