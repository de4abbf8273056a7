"""`POST /feedback` over the API: what may be sent, what is said to what may not, and by whom."""

import csv
import json
import time
from functools import partial
from itertools import count

import httpx
import pytest
from click.testing import CliRunner

from gateway.access.gatekeeper import Gatekeeper
from gateway.api.feedback_wire import ITEMS_MAX
from gateway.cli import cli
from gateway.feedback.prediction_ids import Answered
from gateway.settings import Settings
from registry import aliases, endpoints, models, prediction_keys, versions
from registry.entities import CHAMPION
from registry.sources import Claim, SourcePolicy
from tests.conftest import running_api
from tests.gateway.access.tracking_world import let_in
from tests.gateway.made_ids import made_id
from tracking.access.book import Book, KnownKey
from tracking.access.grants import Grant
from tracking.access.secrets import digest_of
from tracking.database import Database

NOW_MS = 1_700_000_000_000
OURS = "/api/1.0/titlebout"
LINES = {"Content-Type": "application/x-ndjson"}
numbers = count(1)


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    return Settings(data=str(tmp_path_factory.mktemp("feedback")))


@pytest.fixture(scope="module")
def makers(settings):
    """What makes ids, by the name of the endpoint."""
    database = Database(settings.database)
    database.upgrade()
    policy = SourcePolicy(locate=lambda _: None, prefixes=("s3://models",))
    with database.writing() as session:
        key = prediction_keys.ensure_key(session, now_ms=NOW_MS)
        found = {}
        for name in ("iris", "secret"):
            models.create_model(session, name, now_ms=1)
            claim = Claim(source="s3://models/x")
            versions.create_version(session, name, claim, policy=policy, now_ms=1)
            aliases.set_alias(session, name, CHAMPION, 1, author="ann", now_ms=1)
            endpoint_id = endpoints.get_endpoint(session, name).id
            found[name] = partial(made_id, key, Answered(endpoint_id, 1, CHAMPION, 1))
    database.dispose()
    return found


@pytest.fixture(scope="module")
def client(settings, makers):
    with running_api(settings) as url, httpx.Client(base_url=url, timeout=30) as client:
        yield client


@pytest.fixture
def predicted(makers):
    def make(prediction="a", endpoint="iris", at_ms=None):
        at_ms = int(time.time() * 1000) if at_ms is None else at_ms
        return makers[endpoint](count=next(numbers), at_ms=at_ms, bucket=7, prediction=prediction)

    return make


def test_one_item_is_answered_by_what_became_of_it(client, predicted):
    item = {"prediction_id": predicted(), "label": "a"}
    assert client.post("/feedback", json=item).json() == {
        "accepted": 1, "waiting": 0, "repeated": 0, "unmatched": 0, "forged": 0, "refused": 0, "not_compared": 0,
        "errors": [],
    }  # fmt: skip
    again = client.post("/feedback", json=item)
    assert (again.status_code, again.json()["repeated"]) == (200, 1)


@pytest.mark.parametrize(
    ("prediction", "given", "status", "said"),
    [
        ("a", {"prediction_id": "nothing", "label": 1}, 400, "not made here"),
        ("a", {"prediction_id": "x" * 5_000, "label": 1}, 400, "not made here"),
        ("a", {"prediction_id": "ä\0" * 20, "label": 1}, 400, "not made here"),
        ("a", {}, 400, "a `label` or a `reward`"),
        ("a", {"label": 1, "reward": 1}, 400, "a `label` or a `reward`"),
        ("a", {"label": 0.5}, 400, "can't be compared"),
        (1.5, {"label": "a"}, 400, "can't be compared"),
        (1.5, {"label": 1e70}, 400, "can't be compared"),
        ("a", {"reward": 1e70}, 400, "A reward is a number"),
        ("a", {"reward": "1"}, 400, "reward"),
        ("a", {"reward": True}, 400, "reward"),
        ("a", {"label": []}, 400, "label"),
        ("a", {"label": "a", "row": -1}, 400, "row"),
        ("a", {"label": "a", "row": 1}, 404, "The answer had 1 row, counted from 0"),
        ("a", {"reward": 1, "row": 0}, 400, "A reward is of the whole answer"),
        ("a", {"label": 1, "lable": 1}, 400, "lable"),
        (None, {"label": 1}, 404, "the prediction log is off"),
    ],
)
def test_one_item_that_does_not_count_is_refused_in_words(client, predicted, prediction, given, status, said):
    answer = client.post("/feedback", json={"prediction_id": predicted(prediction)} | given)
    assert (answer.status_code, said in answer.json()["message"]) == (status, True), answer.text


@pytest.mark.parametrize(("at_ms", "said"), [(0, "older than 30 days"), (2**48 - 1, "from the future")])
def test_a_prediction_is_neither_too_old_nor_still_to_come(client, predicted, at_ms, said):
    answer = client.post("/feedback", json={"prediction_id": predicted(at_ms=at_ms), "label": "a"})
    assert answer.status_code == 400
    assert said in answer.json()["message"]


def test_of_many_the_good_ones_count_and_the_others_are_listed(client, predicted):
    good, other = predicted(), predicted()
    lines = [
        json.dumps({"prediction_id": good, "label": "a"}),
        "",
        "{",
        json.dumps({"prediction_id": "forged", "label": "a"}),
        json.dumps({"prediction_id": other}),
        '{"prediction_id": "' + other + '", "label": NaN}',
        '{"prediction_id": "' + other + '", "label": "a", "label": "b"}',
        "[" * 5_000,
        '"text"',
        json.dumps({"prediction_id": predicted(None), "label": 1}),
    ]
    said = client.post("/feedback", content="\r\n".join(lines), headers=LINES).json()
    counts = {name: said[name] for name in ("accepted", "repeated", "unmatched", "forged", "refused")}
    assert counts == {"accepted": 1, "repeated": 0, "unmatched": 1, "forged": 1, "refused": 6}
    assert [error["index"] for error in said["errors"]] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert said["errors"][1] == {
        "index": 2, "prediction_id": "forged", "outcome": "forged", "message": said["errors"][1]["message"],
    }  # fmt: skip
    items = [{"prediction_id": good, "label": "a"}, {"prediction_id": other, "label": "b"}, 7]
    listed = json.dumps({"feedback": items})[:-2] + ', {"prediction_id": "' + predicted(1.5) + '", "label": 1e400}]}'
    said = client.post("/feedback", content=listed).json()
    assert (said["accepted"], said["repeated"], said["refused"]) == (1, 1, 2)
    assert "Number out of range - at `$.label`" in said["errors"][1]["message"]


def test_no_list_of_two_is_passed_over(client, predicted):
    item = json.dumps({"prediction_id": predicted(), "label": "a"})
    for twice in (f'{{"feedback": [{item}], "feedback": [1]}}', f'{{"feedback": [], "feed\\u0062ack": [{item}]}}'):
        answer = client.post("/feedback", content=twice)
        assert (answer.status_code, "'feedback' twice" in answer.json()["message"]) == (400, True), answer.text
    assert client.post("/feedback", content=item).json()["accepted"] == 1


@pytest.mark.parametrize(
    ("content", "headers", "status"),
    [
        ("", {}, 400),
        ("", LINES, 400),
        ("[]", {}, 400),
        ('{"feedback": []}', {}, 400),
        ('{"feedback": {}}', {}, 400),
        ('{"feedback": [], "more": 1}', {}, 400),
        ("{", {}, 400),
        (b'{"prediction_id": "\xff"}', {}, 400),
        (b'{"prediction_id": "\xff"}', LINES, 200),
        ("[" * 100_000, {}, 400),
        ("x,y", {"Content-Type": "text/csv"}, 415),
        ("{}\n" * (ITEMS_MAX + 1), LINES, 413),
        ("\n" * (2 * ITEMS_MAX + 2), LINES, 413),
        (json.dumps({"feedback": [1] * (ITEMS_MAX + 1)}), {}, 413),
        (b" " * (9 * 1024**2), LINES, 413),
    ],
)
def test_bodies_that_are_none_are_refused(client, content, headers, status):
    answer = client.post("/feedback", content=content, headers=headers)
    assert answer.status_code == status, answer.text
    assert {"error_code", "message"} <= set(answer.json()) or status == 200


def test_errors_are_listed_up_to_a_hundred_and_counted_to_the_last(client):
    said = client.post("/feedback", json={"feedback": [{"prediction_id": "x", "label": 1}] * 250}).json()
    assert (said["forged"], len(said["errors"])) == (250, 100)


def test_the_counts_of_an_endpoint_are_kept(client, predicted):
    path = f"{OURS}/endpoints/secret/feedback"
    assert client.get(path).json() == {"endpoint": "secret", "counts": {}}
    client.post("/feedback", json={"prediction_id": predicted(endpoint="secret"), "label": "a"})
    assert client.get(path).json()["counts"] == {"accepted": 1}
    assert client.get(f"{OURS}/endpoints/nothing/feedback").status_code == 404


def test_whoever_may_ask_an_endpoint_may_give_feedback_for_it(settings, predicted):
    gate = Gatekeeper(is_open=False, clock=lambda: 0.0)
    grants = {"ann": [Grant.parse("scorer:model:iris")], "eve": [Grant.parse("viewer")], "boss": [Grant("admin")]}
    let_in(gate, **grants)
    key = KnownKey("k", "shop", ("ir*",), may_force=False, may_pin=False, rate=None, expires_ms=None)
    gate.take(Book(gate.book.number, gate.book.users, gate.book.tokens, {digest_of("tbk_shop"): key}))
    with running_api(settings, gate) as url, httpx.Client(base_url=url, timeout=30) as client:

        def statuses(who):
            shown = {"Authorization": f"Bearer {who}"} if who else {}
            items = [{"prediction_id": predicted(endpoint=name), "label": "a"} for name in ("iris", "secret")]
            one_by_one = [client.post("/feedback", json=item, headers=shown).status_code for item in items]
            return one_by_one, client.post(f"{OURS}/prediction-keys/rotate", json={}, headers=shown).status_code

        assert statuses("ann") == ([200, 403], 403)
        assert statuses("tbk_shop") == ([200, 403], 403)
        assert statuses("eve") == ([403, 403], 403)
        assert statuses("boss") == ([200, 200], 200)
        assert statuses(None) == ([401, 401], 401)
        bulk = {"feedback": [{"prediction_id": predicted(endpoint="secret"), "label": "a"}]}
        said = client.post("/feedback", json=bulk, headers={"Authorization": "Bearer ann"}).json()
    assert (said["refused"], said["errors"][0]["outcome"]) == (1, "not_permitted")


def test_keys_are_shown_without_their_secrets(client, settings):
    made = client.post(f"{OURS}/prediction-keys/rotate", json={}).json()
    shown = client.get(f"{OURS}/prediction-keys")
    assert shown.json()["keys"][0] == made
    database = Database(settings.database)
    with database.reading() as session:
        secrets = [key.secret for key in prediction_keys.list_keys(session)]
    database.dispose()
    assert not any(secret.hex() in shown.text for secret in secrets)
    assert set(made) == {"id", "made_ms", "retired_ms"}


# --- on the command line


def titlebout(client, *arguments):
    return CliRunner().invoke(cli, [*map(str, arguments), "--server", str(client.base_url)])


def test_the_verb_gives_one_label_or_reward(client, predicted):
    given = predicted("1"), "1"
    assert titlebout(client, "feedback", *given).output == "Counted.\n"
    assert "counts once" in titlebout(client, "feedback", *given).output
    assert titlebout(client, "feedback", predicted(0.25), "true").output == "Counted.\n"
    assert titlebout(client, "feedback", predicted(None), "--reward", "-1.5").output == "Counted.\n"
    assert titlebout(client, "feedback", predicted(-2.5), "-1.5").output == "Counted.\n"
    for wrong in (
        [predicted()],
        [predicted(), "a", "--reward", "1"],
        [],
        [predicted(), "--reward", "nan"],
        [predicted(), "--rewrad", "1"],
        ["--fiel", "labels.csv"],
    ):
        assert titlebout(client, "feedback", *wrong).exit_code == 2, wrong
    assert "can't be compared" in str(titlebout(client, "feedback", predicted(1.5), "1e400").exception)


@pytest.mark.parametrize("name", ["labels.csv", "labels.ndjson"])
def test_the_verb_gives_a_file_of_them_and_says_which_lines_were_none(client, predicted, tmp_path, name):
    rows = [(predicted("a"), "a"), (predicted(2), 2), (predicted(0.25), True), (predicted("x,y"), "x,y"), ("forged", 1)]
    with (tmp_path / name).open("w", newline="") as file:
        if name.endswith("csv"):
            csv.writer(file).writerows(
                [("note", "label", "prediction_id"), *(("n", label, one) for one, label in rows)]
            )
        else:
            file.writelines(json.dumps({"prediction_id": one, "label": label}) + "\n" for one, label in rows)
    said = titlebout(client, "feedback", "--file", tmp_path / name)
    assert said.exit_code == 1
    assert "4 accepted, 0 waiting, 0 repeated, 0 unmatched, 1 forged, 0 refused." in said.output
    assert f"line {6 if name.endswith('csv') else 5}: This prediction id was not made here" in said.output
    assert "0 accepted, 0 waiting, 4 repeated" in titlebout(client, "feedback", "--file", tmp_path / name).output


def test_a_file_may_have_been_written_by_pandas_or_by_a_spreadsheet(client, predicted, tmp_path):
    file = tmp_path / "labels.csv"
    file.write_text(f"prediction_id,row,label\n{predicted('1.0')},0.0,1.0\n{predicted(7)},,7.0\n")
    said = titlebout(client, "feedback", "--file", file)
    assert (said.exit_code, said.stdout[:12]) == (0, "2 accepted, "), said.output
    file.write_bytes("prediction_id,label\nx,bär\n".encode("latin-1"))
    said = titlebout(client, "feedback", "--file", file)
    assert (said.exit_code, "can't be read as UTF-8" in said.output) == (1, True)


def test_a_file_of_labels_has_columns_with_their_names(client, tmp_path):
    (tmp_path / "labels.csv").write_text("id,label\nx,1\n")
    said = titlebout(client, "feedback", "--file", tmp_path / "labels.csv")
    assert said.exit_code == 2
    assert "prediction_id" in said.output


def test_the_verb_rotates_keys(client, predicted):
    before = predicted()
    assert "older ids go on counting" in titlebout(client, "keys", "rotate").output
    assert titlebout(client, "feedback", before, "a").output == "Counted.\n"
    assert titlebout(client, "keys", "list").output.count("signs") == 1
