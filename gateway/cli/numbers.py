"""Versions, percentages and parts of a whole, as people write them."""

import re

import click

_PERCENT = re.compile(r"[0-9]{1,3}(\.[0-9]{1,2})?")


def read_percent(text: str) -> float | None:
    """``5``, ``0.25`` or ``10%``, as a number of percents; None if it is something else."""
    number = text.strip().removesuffix("%").strip()
    return float(number) if _PERCENT.fullmatch(number) else None


class Percent(click.ParamType[float]):
    """Percents with two decimals at most, which are whole basis points, from *least* to *most*."""

    name = "percent"

    def __init__(self, least: float = 0.0, most: float = 100.0) -> None:
        self._least = least
        self._most = most

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        percent = value if isinstance(value, float) else read_percent(str(value))
        if percent is None or not self._least <= percent <= self._most:
            expected = f"expected {self._least:g} to {self._most:g} percent, as in 10 or 0.25."
            self.fail(f"{str(value)[:50]!r}: {expected}", param, ctx)
        return percent


class Part(click.ParamType[float]):
    """A part of a whole, or a difference of two: ``0.9`` or ``90%``."""

    name = "part"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        text = str(value).strip()
        try:
            return float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
        except ValueError:
            self.fail(f"{text[:50]!r}: expected a part of 1, as in 0.9 or 90%.", param, ctx)


class VersionNumber(click.ParamType[int]):
    """A version by its number, and not by an alias, which may mean another one in a moment.

    *otherwise* says what else may have been meant.
    """

    name = "version"

    def __init__(self, otherwise: str = "") -> None:
        self._otherwise = otherwise

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        text = str(value)
        if not (text.isascii() and text.isdecimal()):
            self.fail(
                f"{text[:50]!r}: expected a version's number, such as 2; `titlebout resolve models:/NAME@ALIAS` says "
                f"what an alias means.{self._otherwise}",
                param,
                ctx,
            )
        return int(text)
