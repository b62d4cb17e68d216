"""A style stated in the system message, and how far a reply follows it.

What a person's style is, learned from their comparisons, is in `preference_posterior`. Start at
`axes`; `measures` scores replies, `wording` says a style in the agent's instructions.
"""

from rlchat_reward_models.stated_style.axes import ANY, AXES, SIDES, Style, check_names, draw_style
from rlchat_reward_models.stated_style.measures import (
    STATED_PARTS,
    follows,
    hindsight_styles,
    replies_of,
    style_parts,
)
from rlchat_reward_models.stated_style.wording import state_style

__all__ = [
    "ANY",
    "AXES",
    "SIDES",
    "STATED_PARTS",
    "Style",
    "check_names",
    "draw_style",
    "follows",
    "hindsight_styles",
    "replies_of",
    "state_style",
    "style_parts",
]
