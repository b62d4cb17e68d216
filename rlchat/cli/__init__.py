"""The command line: one file for each group of verbs, and all that prints or reads a terminal.

What a verb does is a library call of another room; here are its options, words and tables.
Start with `main`, the table of verbs.
"""
