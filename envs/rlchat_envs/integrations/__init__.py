"""Games of other packages as environments of text.

Importing ``rlchat_envs.integrations.textarena`` or ``rlchat_envs.integrations.gem`` registers the
games of that package; importing this loads neither. Start at `game_env.GameEnv`.
"""
