"""Looks for a way round the gates: sequences of calls drawn at random, by whoever may make them, each looked at after.

`python -m loadtests.gates` makes 10,000 of them. `calls` and `motifs` draw them, `world` makes them by the very
handlers that HTTP requests come to, and `watcher` says what each has changed that it might not, by figures of its own.
`checks` takes out what keeps them from it, piece by piece, to see that they would find the way.
"""
