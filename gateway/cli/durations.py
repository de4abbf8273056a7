"""Durations as people write them: `500ms`, `30s`, `10m`, `2h`, `1d`."""

import re

import click

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}
_DURATION = re.compile(r"(?P<number>\d{1,9}(?:\.\d+)?)(?P<unit>ms|s|m|h|d)")


class Duration(click.ParamType[float]):
    """Seconds, from *least_s* to *most_s*."""

    name = "duration"

    def __init__(self, least_s: float, most_s: float) -> None:
        self._least_s = least_s
        self._most_s = most_s

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        found = _DURATION.fullmatch(str(value))
        if found is None:
            self.fail(f"{str(value)[:50]!r}: expected a number and its unit, as in 30s or 10m.", param, ctx)
        seconds = float(found["number"]) * _SECONDS[found["unit"]]
        if not self._least_s <= seconds <= self._most_s:
            self.fail(f"{value}: from {self._least_s:g} s to {self._most_s:g} s.", param, ctx)
        return seconds
