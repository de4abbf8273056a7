"""Comparisons over HTTP and on the command line, of made-up traffic."""

import io
import json

import httpx
import pytest
from click.testing import CliRunner
from mlflow import MlflowClient
from rich.console import Console

from gateway.cli import cli
from gateway.cli.compare import shown, watch_conclusion
from gateway.comparison import kept_sums
from gateway.settings import Settings
from registry import endpoints
from registry.tallies import Kind
from tests.gateway.comparison.made_up import (
    CHALLENGER,
    CHAMPION,
    calibrated,
    cell,
    labelled,
    predicted,
    rewarded,
    served,
    took,
)
from tracking.database import Database

OURS = "/api/1.0/titlebout"


@pytest.fixture
def iris(api_server):
    """A model of three versions, of which the first is the champion."""
    client = MlflowClient(api_server, registry_uri=api_server)
    client.create_registered_model("iris")
    run = client.create_run("0")
    for _ in range(3):
        client.create_model_version("iris", f"{run.info.artifact_uri}/model", run.info.run_id)
    client.set_registered_model_alias("iris", "champion", 1)
    return client


@pytest.fixture
def api_database(shared_api):
    """The database of `api_server`."""
    database = Database(Settings(data=str(shared_api.data)).database)
    yield database
    database.dispose()


@pytest.fixture
def compare(api_server):
    def ask(status=200, name="iris", **params):
        answer = httpx.get(f"{api_server}{OURS}/endpoints/{name}/comparison", params=params)
        assert answer.status_code == status, answer.text
        return answer.json()

    return ask


@pytest.fixture
def challenged(iris, api_server, api_database):
    """Half of the traffic is the challenger's, which is right more often; the period in which that was counted."""
    iris.set_registered_model_alias("iris", "challenger", 2)
    shares = {"shares_bp": {"champion": 5_000, "challenger": 5_000}}
    period = httpx.put(f"{api_server}{OURS}/endpoints/iris/split", json=shares).json()["period"]
    ours, theirs = cell(period, CHAMPION), cell(period, CHALLENGER)
    counted = {
        Kind.SERVING: {ours: served(3_000, failing=0.01), theirs: served(3_000, failing=0.01, seed=2)},
        Kind.LATENCY: {ours: took(3_000, 0.01), theirs: took(3_000, 0.02, seed=2)},
        Kind.PREDICTIONS: {ours: predicted(cat=2_000, dog=1_000), theirs: predicted(cat=1_500, dog=1_500)},
        Kind.CLASSES: {ours: labelled(1_000, accuracy=0.7), theirs: labelled(1_000, accuracy=0.85, seed=2)},
        Kind.CALIBRATION: {ours: calibrated(1_000), theirs: calibrated(1_000, seed=2)},
    }
    with api_database.writing() as session:
        endpoint_id = endpoints.get_endpoint(session, "iris").id
        for kind, cells in counted.items():
            kept_sums.add(session, endpoint_id, kind, cells)
    return period


def test_all_that_was_counted_of_two_arms_is_told(challenged, compare):
    found = compare()
    assert found["conclusion"] == "Better: challenger (version 2) than champion (version 1), by accuracy."
    assert (found["verdict"], found["metric"]) == ("better", "accuracy")
    assert [metric["metric"] for metric in found["metrics"]] == ["failure_rate", "accuracy"]
    accuracy = found["metrics"][1]
    assert 0 < accuracy["lower"] < accuracy["difference"] < accuracy["upper"] < 0.25
    assert (accuracy["champion_n"], accuracy["needed"]["more"]) == (1_000, 0)
    champion, challenger = found["champion"], found["challenger"]
    assert (challenger["arm"], challenger["version"], challenger["share_bp"]) == ("challenger", 2, 5_000)
    assert champion["requests"] == 3_000
    assert champion["failure_rate_lower"] < champion["failure_rate"] < champion["failure_rate_upper"]
    assert champion["latency"]["p50_ms"] == pytest.approx(10, rel=0.1)
    assert sum(count for _, count in challenger["latency"]["buckets"]) == 3_000
    assert challenger["predictions"]["classes"] == {"cat": 1_500, "dog": 1_500}
    assert len(champion["calibration"]["curve"]) == 15
    assert champion["calibration"]["ece"] < 0.1
    assert found["p99_ratio"]["lower"] > 1
    assert found["split"]["locked"] is False
    assert found["periods"] == {"first": 1, "compared": [challenged], "left_out": []}


def test_whoever_asks_says_the_metric_and_what_would_matter(challenged, compare):
    assert compare(metric="failure_rate")["verdict"] == "not_yet"
    beside = compare(minimal_effect=0.3)
    assert (beside["verdict"], beside["metrics"][1]["alike"]) == ("not_yet", True)
    assert compare(metric="f1")["reason"].startswith("nothing that makes f1 was counted")
    assert compare(from_period=challenged + 1)["periods"]["compared"] == []
    former = compare(champion_version=3, challenger_version=2)
    assert (former["champion"]["version"], former["champion"]["requests"]) == (3, 0)


def test_two_arms_of_one_version_are_said_to_be_that(challenged, compare, iris):
    iris.set_registered_model_alias("iris", "champion", 2)
    found = compare()
    assert found["conclusion"] == "The same version: champion and challenger are both version 2."
    assert found["verdict"] == "not_yet"
    assert found["reason"] == "what they were before is compared where both versions are named"
    assert compare(champion_version=1)["verdict"] == "better"


def test_nonsense_is_refused_with_what_was_wrong(challenged, compare):
    for params, status, said in [
        ({"challenger": "nobody"}, 400, "expected one of its arms: challenger"),
        ({"challenger": "champion"}, 400, "no challenger"),
        ({"metric": "beauty"}, 400, "There is no metric 'beauty'; there are accuracy"),
        ({"minimal_effect": "-1"}, 400, "expected a number, 0 or more"),
        ({"minimal_effect": "nan"}, 400, "expected a number, 0 or more"),
        ({"minimal_effect": "much"}, 400, "minimal_effect"),
        ({"name": "nobody"}, 404, "There is no endpoint 'nobody'"),
        # No column holds it.
        ({"challenger_version": str(10**30)}, 400, ""),
    ]:
        assert said in compare(status, **params)["message"], params


def test_one_arm_alone_is_compared_with_nothing(iris, compare):
    assert "has one arm, so there is nothing to compare" in compare(404)["message"]
    iris.set_registered_model_alias("iris", "challenger", 2)
    assert "nothing was counted" in compare()["conclusion"]
    iris.delete_registered_model_alias("iris", "champion")
    assert "no alias `champion`" in compare(404)["message"]


def test_a_plan_says_how_long_it_takes(api_server):
    def plan(status=200, **params):
        answer = httpx.get(f"{api_server}{OURS}/plan", params={"rate": 0.9, "difference": 0.02} | params)
        assert answer.status_code == status, answer.text
        return answer.json()

    often = {"share": 0.1, "requests_per_unit": 5, "likeness": 0.1, "units_a_day": 1_000}
    assert plan(**often) == {"units": 9_001, "requests": 45_005, "challenger_units": 901, "days": 9.001}
    assert plan()["days"] is None
    for nonsense in (
        {"rate": 2},
        {"rate": "nan"},
        {"difference": 0},
        {"difference": 0.2},
        {"share": 1},
        {"likeness": 2},
        {"requests_per_unit": 0},
        {"requests_per_unit": "nan"},
        {"requests_per_unit": "inf"},
        {"units_a_day": 0},
    ):
        assert plan(400, **nonsense)["message"]


@pytest.fixture
def titlebout(api_server):
    def run(*arguments, status=0):
        done = CliRunner().invoke(cli, [*arguments, "--server", api_server], env={"COLUMNS": "200"})
        assert done.exit_code == status, done.output
        return done.output if status == 0 else str(done.exception) + done.output

    return run


def test_the_command_line_says_the_conclusion_first(challenged, titlebout):
    lines = titlebout("compare", "iris").splitlines()
    assert lines[0] == "Better: challenger (version 2) than champion (version 1), by accuracy."
    assert lines[1].startswith("The difference is between +0.")
    said = "\n".join(lines)
    assert "challenger  2        50 %   3,000" in said
    assert "Counted of both arms: failure_rate 6,000, accuracy 2,000." in said
    assert "Predicted by challenger: cat 50%, dog 50%." in said
    assert "Calibration error" in said
    beside = titlebout("compare", "iris", "challenger", "--metric", "failure_rate", "--minimal-effect", "0.001")
    assert beside.startswith("Not yet: failure_rate doesn't tell")
    assert " more would show a difference of 0.001 " in beside
    assert json.loads(titlebout("compare", "iris", "--json"))["verdict"] == "better"
    assert titlebout("compare", "iris", "--versions", "3:2").startswith("Not yet: nothing was counted of both")
    assert "has one arm" not in titlebout("compare", "iris", "nobody", status=1)
    assert "expected two versions" in titlebout("compare", "iris", "--versions", "3", status=2)
    assert titlebout("compare", "irs", status=1).strip().endswith("There are: iris.")


def test_eighty_columns_take_all_of_it(challenged, compare):
    narrow, endless = (Console(file=io.StringIO(), width=width) for width in (80, 10_000))
    for console in (narrow, endless):
        console.print(shown(compare()))
    lines = narrow.file.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    # Sentences are folded between words; the rows of tables are what they are without an end.
    assert narrow.file.getvalue().split() == endless.file.getvalue().split()
    rows = {line.rstrip() for line in endless.file.getvalue().splitlines() if "  " in line.strip()}
    assert len(rows) == 6
    assert rows <= {line.rstrip() for line in lines}


def test_the_command_line_plans(titlebout):
    wanted = ("--rate", "0.9", "--difference", "0.02", "--share", "0.1", "--units-a-day", "1000")
    said = titlebout("plan", *wanted)
    assert said == "32,144 callers, in 32.1 days: 3,215 of them the challenger's, with 32,144 requests in all.\n"
    assert "should be rates" in titlebout("plan", "--rate", "0.9", "--difference", "0.2", status=1)


def test_the_page_is_made_of_the_same(challenged, api_server):
    answer = httpx.get(f"{api_server}/endpoints/iris/comparison", headers={"Accept": "text/html"})
    assert answer.status_code == 200
    assert "Better: challenger (version 2) than champion (version 1), by accuracy." in answer.text
    assert "script" not in answer.headers["Content-Security-Policy"]
    nobody = httpx.get(f"{api_server}/endpoints/nobody/comparison", headers={"Accept": "text/html"})
    assert (nobody.status_code, "There is no endpoint" in nobody.text) == (404, True)


def test_each_arm_is_compared_by_its_name(challenged, iris, api_server, compare, titlebout):
    iris.set_registered_model_alias("iris", "next", 3)
    shares = {"shares_bp": {"champion": 5_000, "challenger": 4_000, "next": 1_000}}
    httpx.put(f"{api_server}{OURS}/endpoints/iris/split", json=shares).raise_for_status()
    found = compare()
    # What was counted before another arm joined counts on.
    assert (found["challenger"]["arm"], found["others"], found["verdict"]) == ("challenger", ["next"], "better")
    other = compare(challenger="next")
    assert (other["challenger"]["version"], other["others"]) == (3, ["challenger"])
    assert "could be compared as well: next." in titlebout("compare", "iris")


def test_rewards_within_bounds_say_something_though_there_are_few(challenged, api_database, compare, titlebout):
    with api_database.writing() as session:
        endpoint_id = endpoints.get_endpoint(session, "iris").id
        # As hardly anything varies, there isn't information enough for the bell curve.
        few = {cell(challenged, CHAMPION): rewarded(150, 0.02), cell(challenged, CHALLENGER): rewarded(150, 0.9)}
        kept_sums.add(session, endpoint_id, Kind.REWARDS, few)

    def reward(**params):
        return next(each for each in compare(**params)["metrics"] if each["metric"] == "reward")

    assert compare()["metric"] == "reward"
    assert reward()["method"] == "asymptotic"
    bounded = reward(lowest_reward=0, highest_reward=1)
    assert (bounded["method"], bounded["verdict"]) == ("empirical_bernstein", "better")
    assert compare(metric="reward", lowest_reward=0, highest_reward=1)["verdict"] == "better"
    assert titlebout("compare", "iris", "--rewards", "0:1").startswith("Better: ")
    assert "within 0 and 0.5" in compare(400, lowest_reward=0, highest_reward=0.5)["message"]
    assert "within 1 and 0" in compare(400, lowest_reward=1, highest_reward=0)["message"]
    assert "two bounds or none" in compare(400, lowest_reward=1)["message"]
    assert "expected two numbers" in titlebout("compare", "iris", "--rewards", "much", status=2)


@pytest.mark.parametrize("on_terminal", [True, False])
def test_watching_shows_what_changes_until_interrupted(challenged, compare, on_terminal):
    looks = [compare(metric="failure_rate"), compare(metric="failure_rate"), compare()]
    left, shown = list(looks), io.StringIO()

    def pause(_seconds):
        if not left:
            raise KeyboardInterrupt

    console = Console(file=shown, force_terminal=on_terminal, width=200, highlight=False)
    watch_conclusion(console, lambda: left.pop(0), pause=pause)
    said = shown.getvalue()
    assert said.index(looks[0]["conclusion"]) < said.index(looks[2]["conclusion"])
    if not on_terminal:
        assert said.splitlines() == [looks[0]["conclusion"], looks[2]["conclusion"]]
