"""Champion against challenger: what is counted, what may be concluded from it, and when not yet.

All of it is pure: sums go in, conclusions come out. `statistics.py` is the place to begin; docs/comparison.md says the
same for people.
"""
