"""Looking into runs: opened with their critic and reward, their episodes read again, model cards.

Nothing here trains. Start with `explanation`.
"""
