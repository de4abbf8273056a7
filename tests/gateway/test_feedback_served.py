"""Feedback against a real server: predictions by two protocols, labelled by id, and counted for who gave them."""

import base64

import httpx
import pytest

from gateway.cli.client import Client
from gateway.cli.server_process import free_port, server_process
from gateway.comparison import kept_sums
from gateway.comparison.sums import CLASSES, REWARDS
from gateway.settings import Settings
from registry import endpoints
from tests.gateway.test_serving import ask, wait_until, wait_until_served
from tests.training import ROW, constant_classifier, register, set_alias
from tracking.database import Database

pytestmark = pytest.mark.e2e

ID = "X-Titlebout-Prediction-Id"
V2 = {"inputs": [{"name": "input", "shape": [1, 4], "datatype": "FP64", "data": ROW}]}


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """Version 1 of `iris` answers 0 to half of the units, version 2 answers 1 to the others."""
    with server_process(tmp_path_factory.mktemp("feedback"), "--workers", "2", port=free_port()) as server:
        for answer in (0, 1):
            register(server.url, "iris", constant_classifier(answer))
        set_alias(server.url, "iris", "champion", 1)
        set_alias(server.url, "iris", "challenger", 2)
        Client(server.url).change_split("iris", {"champion": 5_000, "challenger": 5_000})
        wait_until_served(server.url, "iris", champion=1, challenger=2)
        yield server


def sums_of(server):
    database = Database(Settings(data=str(server.data)).database)
    with database.reading() as session:
        kept = kept_sums.read(session, endpoints.get_endpoint(session, "iris").id)
    database.dispose()
    return kept


def labelled(server, layout=CLASSES):
    """{arm: (labels, the second sum)} over all periods."""
    found = {}
    for cell, sums in sums_of(server).tally(layout).cells.items():
        before = found.get(cell.arm, (0, 0))
        found[cell.arm] = tuple(int(before[place] + sums.values[place].sum()) for place in (0, 1))
    return found


def give(server, **item):
    return httpx.post(f"{server.url}/feedback", json=item, timeout=30)


def test_labels_of_answers_by_two_protocols_count_for_the_arms_that_gave_them_and_once(served):
    answers = [ask(served.url, X_Titlebout_Unit=f"unit-{number}") for number in range(20)]
    v2 = httpx.post(f"{served.url}/v2/models/iris/infer", json=V2, headers={"X-Titlebout-Unit": "unit-0"}, timeout=30)
    assert v2.is_success, v2.text
    answers.append(v2)
    ids = [answer.headers[ID] for answer in answers]
    assert len(set(ids)) == len(ids)
    assert all(len(one) < 120 for one in ids)
    arms = [answer.headers["X-Titlebout-Arm"] for answer in answers]
    items = [{"prediction_id": one, "label": 1} for one in ids]
    lines = "\n".join(map(str, items)).replace("'", '"')
    said = httpx.post(
        f"{served.url}/feedback", content=lines, headers={"Content-Type": "application/x-ndjson"}, timeout=30
    ).json()
    assert (said["accepted"], said["not_compared"], said["errors"]) == (len(ids), 0, [])
    expected = {arm: (arms.count(arm), arms.count(arm) if arm == "challenger" else 0) for arm in set(arms)}
    assert labelled(served) == expected
    again = httpx.post(f"{served.url}/feedback", json={"feedback": items[::-1]}, timeout=30).json()
    assert (again["accepted"], again["repeated"]) == (0, len(ids))
    assert labelled(served) == expected
    assert give(served, prediction_id=ids[0], reward=2.5).json()["accepted"] == 1
    assert labelled(served, REWARDS) == {arms[0]: (1, 2)}
    forged = ids[0][:-1] + ("A" if ids[0][-1] != "A" else "B")
    assert give(served, prediction_id=forged, label=1).status_code == 400
    # What the other worker counted is up to a second old.
    counted = {
        f'gateway_feedback_total{{endpoint="{whose}",outcome="{of}"}} {n}.0'
        for whose, of, n in [("iris", "repeated", 21), ("iris", "accepted", 22), ("", "forged", 1)]
    }
    wait_until(lambda: counted <= set(httpx.get(f"{served.url}/metrics", timeout=30).text.splitlines()))


def test_a_forced_answer_is_taken_and_compared_with_nothing_and_a_wide_one_is_unmatched_unless_rewarded(served):
    before = labelled(served)
    forced = ask(served.url, X_Titlebout_Arm="challenger").headers[ID]
    numbered = ask(served.url, "iris/versions/1").headers[ID]
    for one in (forced, numbered):
        said = give(served, prediction_id=one, label=1).json()
        assert (said["accepted"], said["not_compared"]) == (1, 1)
    assert labelled(served) == before
    wide = ask(served.url, body=b'{"inputs": [[5.1, 3.5, 1.4, 0.2], [5.1, 3.5, 1.4, 0.2]]}').headers[ID]
    refused = give(served, prediction_id=wide, label=1)
    assert refused.status_code == 404
    assert "more than one class" in refused.json()["message"]
    unmatched = 'gateway_feedback_total{endpoint="iris",outcome="unmatched"} 1.0'
    wait_until(lambda: unmatched in httpx.get(f"{served.url}/metrics", timeout=30).text)
    assert give(served, prediction_id=wide, reward=1).json()["accepted"] == 1


def test_an_answer_that_failed_has_no_id_and_a_new_key_leaves_old_ids_good(served):
    assert ID not in ask(served.url, body=b"{}").headers
    old = ask(served.url).headers[ID]
    rotated = httpx.post(f"{served.url}/api/1.0/titlebout/prediction-keys/rotate", json={}, timeout=30).json()
    wait_until(lambda: _signed_by(ask(served.url).headers[ID]) == rotated["id"])
    assert give(served, prediction_id=old, label=0).json()["accepted"] == 1
    keys = httpx.get(f"{served.url}/api/1.0/titlebout/prediction-keys", timeout=30).json()["keys"]
    assert [key["retired_ms"] is None for key in keys] == [True, False]


def _signed_by(prediction_id):
    return base64.urlsafe_b64decode(prediction_id[:8])[1:5].hex()
