"""``python -m gateway.cli`` is `titlebout`."""

from gateway.cli import main

main()
