"""What workers know of shadows reaches the database once, whatever else goes wrong there."""

import asyncio
from contextlib import contextmanager

import numpy as np
import pytest

from gateway.api.scoring.json_answers import row_of
from gateway.comparison.disagreement import ShadowSums
from gateway.observability.metrics import Metrics
from gateway.routing_table import Choice, Shadowing
from gateway.scoring.shadow_counts import Compared, ShadowCounts, tell_or_put_back
from loaders.base import Batch, Form, JsonAnswer
from registry import shadows, tallies
from registry.entities import CHAMPION, Cell, Shadow
from registry.tallies import Kind
from tracking.database import Database, DatabaseUnavailable

WISH = Shadow(arm="challenger", keep_inputs=5)


class LeavingDatabase(Database):
    """Goes away after so many transactions, and comes back."""

    def __init__(self, url, *, after):
        super().__init__(url)
        self.left = after

    @contextmanager
    def writing(self):
        self.left -= 1
        if self.left == -1:
            raise DatabaseUnavailable
        with super().writing() as session:
            yield session


def choice(endpoint_id, arm, version):
    return Choice("iris", "iris", version, arm, 1, endpoint_id=endpoint_id, period=1)


def differs(endpoint_id, given=None, shadows_own=None):
    """One request on which the challenger says 2 and the champion said 1."""
    one, two = (Batch(Form.TENSOR, {"": np.array([value])}) for value in (1.0, 2.0))
    return Compared(
        shadowing=Shadowing(choice(endpoint_id, WISH.arm, 2), WISH, is_dark=True),
        choice=choice(endpoint_id, CHAMPION, 1),
        given=[given or one],
        rows=[1],
        asked=one,
        answer=shadows_own or two,
        sizes=[10],
        times_s=None,
    )


def compared(database, endpoint_id):
    with database.reading() as session:
        kept = tallies.read(session, endpoint_id)[Kind.SHADOW]
    pairs = [pair for content in kept.values() for pair in ShadowSums.from_bytes(content).pairs.values()]
    return sum(pair.compared for pair in pairs)


@pytest.fixture
def counts():
    return ShadowCounts(Metrics(), row_of)


def test_sums_count_once_where_the_database_goes_away_before_it_has_the_inputs(database, endpoint_id, two_arms, counts):
    with database.writing() as session:
        shadows.set_shadow(session, "iris", WISH, author="ann", now_ms=1)
    leaving = LeavingDatabase(database.url.render_as_string(hide_password=False), after=1)
    counts.compared(differs(endpoint_id))
    for _ in range(2):
        asyncio.run(tell_or_put_back(counts, leaving))
    leaving.dispose()
    assert compared(database, endpoint_id) == 1


def test_what_cannot_be_told_yet_is_told_later(database, endpoint_id, two_arms, counts):
    leaving = LeavingDatabase(database.url.render_as_string(hide_password=False), after=0)
    for _ in range(2):
        counts.compared(differs(endpoint_id))
        asyncio.run(tell_or_put_back(counts, leaving))
    leaving.dispose()
    assert compared(database, endpoint_id) == 2


def test_sums_that_cannot_be_read_keep_no_other_from_being_told(database, endpoint_id, two_arms, counts, caplog):
    cell = Cell(period=1, arm=WISH.arm, version=2)
    with database.writing() as session:
        tallies.add(session, endpoint_id, Kind.SHADOW, {cell: b"damaged"}, lambda _, new: new)
    counts.compared(differs(endpoint_id))
    asyncio.run(tell_or_put_back(counts, database))
    assert [record.message for record in caplog.records] == ["counts_unreadable"]
    assert not counts.take().sums


def test_an_answer_that_is_no_json_is_kept_as_it_is(counts):
    counts.compared(differs("e", JsonAnswer(b"[NaN]"), JsonAnswer(b"[1]")))
    [kept] = counts.take().inputs["e"]
    assert (kept.given, kept.shadows) == ("[NaN]", [1])
