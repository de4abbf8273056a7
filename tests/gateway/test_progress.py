"""Bars of imports, backups and garbage collection, and the line of what is followed, as a terminal gets them."""

from io import StringIO

import pytest
from rich.console import Console

from gateway.cli.progress import live_line, shown_progress


@pytest.fixture
def terminal():
    return Console(file=StringIO(), force_terminal=True, width=100, color_system=None)


def test_each_step_has_a_bar_that_says_how_much_of_it_is_done(terminal):
    with shown_progress(terminal) as progress:
        progress.begin("runs", 5)
        progress.advance()
        progress.advance(2)
        progress.begin("artifacts")
        progress.expect(4)
        progress.expect(3)
        progress.advance(7)
    last = terminal.file.getvalue().rpartition("\x1b[2K")[2].splitlines()
    (runs,) = [line for line in last if line.startswith("runs")]
    (artifacts,) = [line for line in last if line.startswith("artifacts")]
    assert "3/5" in runs
    assert "7/7" in artifacts
    # Drawn in proportion, and not as a pulse that says nothing.
    assert 0 < runs.count("━") <= artifacts.count("━")


def test_what_is_not_a_terminal_gets_no_control_characters():
    with shown_progress(Console(file=(written := StringIO()), width=100)) as progress:
        progress.begin("runs", 2)
        progress.advance(2)
    assert "2/2" in written.getvalue()
    assert "\x1b" not in written.getvalue()


def test_a_line_changes_below_what_is_printed_and_is_gone_at_the_end(terminal):
    with live_line(terminal) as show:
        show("step 1 of 2")
        terminal.print("10:02  step 2")
        show("[step] 2 of 2 " + "x" * 100)
    written = terminal.file.getvalue()
    assert written.index("step 1 of 2") < written.index("10:02  step 2") < written.index("[step] 2 of 2")
    # Two lines of a hundred columns, each wiped away.
    assert written.rpartition("x")[2].count("\x1b[2K") >= 2


def test_what_is_not_a_terminal_gets_no_line_that_changes():
    console = Console(file=(written := StringIO()), width=100)
    with live_line(console) as show:
        show("step 1 of 2")
        console.print("10:02  step 2")
    assert written.getvalue() == "10:02  step 2\n"
