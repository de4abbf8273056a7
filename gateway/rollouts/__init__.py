"""A version given more and more of the traffic, watched: what is judged, what follows, and who does it.

`judging.py` is the place to begin; docs/rollouts.md says the same for people.
"""
