"""Instants as pages show them."""

from datetime import UTC, datetime


def minute_of(epoch_ms: int) -> str:
    """In UTC, which the page says beside it."""
    return f"{datetime.fromtimestamp(epoch_ms / 1000, UTC):%Y-%m-%d %H:%M}"
