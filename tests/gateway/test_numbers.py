"""Verbs, versions, percents and parts as people type them, the mistyped ones too."""

import click
import pytest
from click.testing import CliRunner

from gateway.cli import cli
from gateway.cli.numbers import Part, Percent, VersionNumber


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (Percent(), "10", 10.0),
        (Percent(), "10%", 10.0),
        (Percent(), "0.25 %", 0.25),
        (Part(), "0.9", 0.9),
        (Part(), "90%", 0.9),
        (Part(), "-0.02", -0.02),
        (VersionNumber(), "2", 2),
    ],
)
def test_what_is_meant_is_read(kind, text, value):
    assert kind.convert(text, None, None) == pytest.approx(value)


@pytest.mark.parametrize(
    ("kind", "text", "said"),
    [
        (Percent(0.01), "0", "'0': expected 0.01 to 100 percent, as in 10 or 0.25."),
        (Percent(), "0.001", "expected 0 to 100 percent"),
        (Percent(), "ten", "expected 0 to 100 percent"),
        (Part(), "much", "'much': expected a part of 1, as in 0.9 or 90%."),
        (VersionNumber(), "v2", "'v2': expected a version's number, such as 2;"),
        (VersionNumber(), "challenger", "`titlebout resolve models:/NAME@ALIAS` says what an alias means."),
        (VersionNumber(), "²", "expected a version's number"),
    ],
)
def test_what_is_mistyped_is_answered_with_what_is_expected(kind, text, said):
    with pytest.raises(click.BadParameter) as refused:
        kind.convert(text, None, None)
    assert said in refused.value.message


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["rolout", "iris", "2"], "There is no verb 'rolout'; is it rollout"),
        (["gate", "lst"], "There is no verb 'lst'; is it list"),
        (["rollout", "stop", "iris"], "A rollout that runs takes status, pause, resume, abort and promote."),
    ],
)
def test_a_mistyped_verb_is_answered_with_those_that_are_like_it(typed, said):
    assert said in CliRunner().invoke(cli, typed).output
