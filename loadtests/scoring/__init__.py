"""Titlebout's predictions beside those of other servers, and beside an echo: `make bench`."""
