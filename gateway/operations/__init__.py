"""What an operator does with the whole store: back it up, restore it, clear it of garbage, fill it from MLflow.

These work on the database and the artifact store themselves, beside running servers or without any.
"""
