"""Load tests: what is asked of a version under load, what was seen, and how both are told."""
