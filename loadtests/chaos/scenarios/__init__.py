"""A scenario a file: what is done, and what must hold meanwhile."""
