import pytest

from loadtests.scoring.measuring import Round, Start, summary
from loadtests.scoring.report import goals_lines, rates_lines, starts_lines
from loadtests.scoring.servers import ECHO, MLFLOW, TITLEBOUT
from loadtests.scoring.work import WORKS, Goal, Work


def rates(per_s, p99_ms=1.0, processor_us=100.0, rows=1):
    return summary([Round(per_s, p50_ms=0.5, p99_ms=p99_ms, processor_us=processor_us, errors=0)], rows)


@pytest.mark.parametrize(
    ("goal", "ours", "theirs", "said"),
    [
        pytest.param(Goal("per_s", MLFLOW, at_least=9), rates(2700), rates(300), "reached", id="just as many times"),
        pytest.param(Goal("per_s", MLFLOW, at_least=9), rates(2600), rates(300), "NOT REACHED", id="too few"),
        pytest.param(Goal("p99_ms", MLFLOW, at_most=0.1), rates(1, 22), rates(1, 225), "reached", id="a tenth"),
        pytest.param(Goal("p99_ms", MLFLOW, at_most=0.1), rates(1, 23), rates(1, 225), "NOT REACHED", id="more"),
    ],
)
def test_a_figure_to_reach_stands_beside_what_was_measured(goal, ours, theirs, said):
    (line,) = goals_lines("work", [goal], {TITLEBOUT: ours, goal.beside: theirs})
    assert line.endswith(f"| {goal.said} | {said} |")


def test_a_figure_whose_other_server_was_left_out_is_left_out():
    assert goals_lines("work", [Goal("per_s", MLFLOW, at_least=9)], {TITLEBOUT: rates(1)}) == []


def test_rates_are_compared_with_mlflow_and_processor_time_with_the_echo():
    found = {TITLEBOUT: rates(3000, processor_us=160), MLFLOW: rates(300, processor_us=3000), ECHO: rates(9000)}
    ours, theirs, echo = rates_lines(WORKS[0], found)
    assert ours.endswith("| 10.0 x | 1.6 x |")
    assert theirs.endswith("| 1.0 x | 30.0 x |")
    assert echo.endswith("| 30.0 x | 1.0 x |")
    (alone,) = rates_lines(WORKS[0], {TITLEBOUT: rates(3000)})
    assert alone.endswith("| - | - |")


def test_starts_and_memory_are_shares_of_mlflows():
    ours, theirs = starts_lines({TITLEBOUT: Start(5.0, 150.0), MLFLOW: Start(25.0, 375.0)})
    assert ours.endswith("| 5.00 | 150 | 0.20, 0.40 |")
    assert theirs.endswith("| 1.00, 1.00 |")


def test_works_have_titles_and_files_of_their_own():
    assert len({work.title for work in WORKS}) == len({work.slug for work in WORKS}) == len(WORKS)
    assert Work("large", "forest", 1000, 4, ()).title == "forest of 100 trees, 1000 rows, 4 connections"
