"""Reading English text by rules: lexicons, cues, tf-idf, and words as search compares them.

No scenario's own vocabulary is here; each scenario has an ``nlu`` module for that. Start at
`lexicon`.
"""
