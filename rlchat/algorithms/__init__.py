"""One update of PPO: advantages, the critic, losses and the optimizer, as functions of tensors.

Nothing here plays episodes, reads or writes files, or knows environments.
Start with `ppo` (the mathematics), then `update` (an iteration's optimizer steps).
"""
