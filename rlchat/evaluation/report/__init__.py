"""One HTML file about runs and evaluations, which opens without a network.

Reads files alone: no model, no training, no torch. `rlchat report` prints and writes.
Start with `report` in `page`.
"""
