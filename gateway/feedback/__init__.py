"""What became of predictions: the ids by which people say so, and how that is counted once for who answered.

`judging.py` is the place to begin; docs/feedback.md says the same for people.
"""
