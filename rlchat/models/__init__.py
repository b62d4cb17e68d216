"""Language models, from a name to logprobs: catalog, adapters, chat templates, kernels.

Nothing here samples, plays or learns; merged copies that sample are used by `rlchat.inference`.
Start with `policy`: one base with the adapter that trains and its frozen reference.
"""
