"""Why an agent said what it did: messages that a reply hung on, attention, counterfactuals.

What score components gave to an advantage is `rlchat.algorithms.attribution`; runs are opened in
`rlchat.training.inspection`. Start with `messages`.
"""
