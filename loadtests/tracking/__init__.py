"""Titlebout's tracking and registry beside the genuine MLflow server: `make bench-tracking`."""
