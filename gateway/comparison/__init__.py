"""Champion against challenger: what is counted, what may be concluded from it, and when not yet.

`statistics.py` is the place to begin, and pure, as all that it stands on; docs/comparison.md says the same for people.
"""
