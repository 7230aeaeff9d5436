"""Fast twins of equations: each gives what an equation of `functional` gives, in fewer passes over memory.

`functional/twins.py` puts each beside its equation, and one test compares them all.
"""
