"""The scenarios that come with rlchat, a folder each.

None imports another; what several share is in `rlchat_envs.consultation` or further below. Start at
`support.scenario`.
"""
