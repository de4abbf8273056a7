"""The supervisor's part in labels that wait: has what was predicted looked up, and counts what they come to.

Each replica has one. Whoever comes first takes the label in the transaction that counts it.
"""

import asyncio
import contextlib
import importlib.util
import logging
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import NamedTuple, TypeVar

import msgspec

from gateway.feedback import keeping
from gateway.feedback.judging import Joined, NoSuchRow, NothingToCompare, Outcome, outcome_of
from gateway.feedback.labels import Label, Said, WrongLabel, compare, compare_probabilities
from gateway.kept_predictions.files import list_files_of
from gateway.kept_predictions.looking_up import Asked, Predicted, Question, look_up
from registry import labels, waiting_labels
from registry.labels import Given
from registry.waiting_labels import Place, WaitingLabel
from tracking.artifact_paths import ArtifactPath
from tracking.artifacts import ArtifactStore, StoreUnavailable
from tracking.database import Database, DatabaseUnavailable
from tracking.errors import ServingError

_log = logging.getLogger(__name__)

_INTERVAL_S = 5.0
_SLACK_MS = 600_000
"""How much later than its id says a prediction may have been kept, and its file be written."""
_FILES_AT_ONCE = 32
_ASKED_AT_ONCE = 10_000
"""As many answers are in memory, and each may be a thousand probabilities."""
_COUNTED_AT_ONCE = 5_000

_NOT_THERE = "the prediction log, where it was looked for, has none"

T = TypeVar("T")


class _Looked(NamedTuple):
    """What was looked through, and for which labels without finding them: files never change."""

    files: frozenset[ArtifactPath]
    nonces: frozenset[bytes]


class _Settled(NamedTuple):
    """What one label has come to."""

    label: WaitingLabel
    said: Said | None
    error: ServingError | None = None

    @property
    def given(self) -> Given:
        return Given(self.label.nonce, is_reward=False, predicted_ms=self.label.at_ms)


class LabelJoiner:
    """Joins labels to what is kept in *store*, by way of *scratch*, a folder on disk. *clock* is of epoch seconds.

    A file is in the store twice *file_s* after its first prediction, unless the store is away for longer.
    """

    def __init__(
        self,
        database: Database,
        store: ArtifactStore,
        scratch: Path,
        *,
        file_s: float,
        clock: Callable[[], float],
        interval_s: float = _INTERVAL_S,
    ) -> None:
        self._database = database
        self._store = store
        self._scratch = scratch
        self._patience_ms = int(2_000 * file_s) + _SLACK_MS
        self._clock = clock
        self._interval_s = interval_s
        # What was answered before then may come to the store later than it should.
        self._on_time_since_ms = 0
        self._looked: dict[Place, _Looked] = {}
        self._failing: set[Place] = set()

    async def run(self) -> None:
        """Until cancelled; where nothing can read what is kept, at once."""
        if importlib.util.find_spec("pyarrow") is None:
            return
        # Whoever ran before may have left behind what is shipped only now.
        self._on_time_since_ms = self._now_ms()
        clock, took_s = asyncio.get_running_loop().time, 0.0
        while True:
            # Files of a long day take their time, and shall have a tenth of a processor at most.
            await asyncio.sleep(max(self._interval_s, 9 * took_s))
            began_s = clock()
            with contextlib.suppress(DatabaseUnavailable):
                await self.join()
            took_s = clock() - began_s

    async def join(self) -> None:
        """Look once for all that is waited for.

        Raises:
            DatabaseUnavailable: if it is away.
        """
        places = await asyncio.to_thread(self._places)
        self._looked = {place: self._looked[place] for place in places if place in self._looked}
        self._failing &= set(places)
        for place in places:
            try:
                await self._join_place(place)
            except DatabaseUnavailable:
                raise
            except StoreUnavailable as error:
                self._on_time_since_ms = self._now_ms()
                self._failed(place, error.message)
            except ServingError as error:
                self._failed(place, error.message)
            except Exception as error:  # An edge: labels of one endpoint mustn't keep all others waiting.
                self._failed(place, str(error), fault=error)
            else:
                self._failing.discard(place)

    def _failed(self, place: Place, reason: str, fault: Exception | None = None) -> None:
        # Once for each time that it begins to fail, not at every try.
        if place not in self._failing:
            _log.warning("labels_not_joined", extra={"reason": reason}, exc_info=fault)
        self._failing.add(place)

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)

    async def _join_place(self, place: Place) -> None:
        # In this order: a file that has come since is looked through the next time.
        late_ms = self._now_ms() - self._patience_ms
        files = await asyncio.to_thread(self._files, place)
        waiting = await asyncio.to_thread(self._waiting, place)
        if not waiting:
            return  # Somebody else has counted them.
        looked = self._looked.get(place, _Looked(frozenset(), frozenset()))
        is_new = any(one.nonce not in looked.nonces for one in waiting)
        settled: dict[bytes, _Settled] = {}
        for some in _some_at_once(sorted(files if is_new else files - looked.files, key=str), _FILES_AT_ONCE):
            settled |= await self._look_up(some, waiting)
        for label in waiting:
            if label.nonce not in settled and late_ms >= max(label.at_ms, self._on_time_since_ms):
                settled[label.nonce] = _Settled(label, None, NothingToCompare(_NOT_THERE))
        for few in _some_at_once(list(settled.values()), _COUNTED_AT_ONCE):
            await asyncio.to_thread(self._count, place, few)
        self._looked[place] = _Looked(files, frozenset(one.nonce for one in waiting if one.nonce not in settled))

    def _places(self) -> list[Place]:
        with self._database.reading() as session:
            return waiting_labels.places(session)

    def _waiting(self, place: Place) -> list[WaitingLabel]:
        with self._database.reading() as session:
            return waiting_labels.list_of(session, place)

    def _files(self, place: Place) -> frozenset[ArtifactPath]:
        """Those of the day, and of the next, in which is what was answered at the end of it."""
        next_day = (date.fromisoformat(place.day) + timedelta(days=1)).isoformat()
        return frozenset(
            path for day in (place.day, next_day) for path in list_files_of(self._store, place.endpoint_id, day)
        )

    # --- looking up

    async def _look_up(
        self, paths: Sequence[ArtifactPath], waiting: Sequence[WaitingLabel]
    ) -> Mapping[bytes, _Settled]:
        """What those of *waiting* come to that are found at *paths*, by nonce."""
        settled: dict[bytes, _Settled] = {}
        unreadable: set[str] = set()
        in_order = sorted(waiting, key=lambda label: label.at_ms)
        with tempfile.TemporaryDirectory(dir=self._scratch, prefix="kept-") as folder:
            files = await asyncio.to_thread(self._fetch, paths, Path(folder))
            for some in _some_at_once(in_order, _ASKED_AT_ONCE):
                since_ms, until_ms = some[0].at_ms - _SLACK_MS, some[-1].at_ms + _SLACK_MS
                found = await look_up(Question(files, since_ms, until_ms, [_asked(label) for label in some]))
                predicted = {one.asked: one for one in found.predicted}
                there = (label for label in some if _asked(label) in predicted)
                settled |= {label.nonce: _settled(label, predicted[_asked(label)]) for label in there}
                unreadable.update(found.unreadable)
        for name in sorted(unreadable):
            _log.warning("predictions_not_read", extra={"path": str(paths[files.index(name)])})
        return settled

    def _fetch(self, paths: Sequence[ArtifactPath], folder: Path) -> list[str]:
        files = []
        for number, path in enumerate(paths):
            file = folder / str(number)
            with self._store.open(path) as reader, file.open("wb") as content:
                for chunk in reader.chunks():
                    content.write(chunk)
            files.append(str(file))
        return files

    # --- counting

    def _count(self, place: Place, settled: Sequence[_Settled]) -> None:
        with self._database.writing() as session:
            if not labels.hold(session, {place.endpoint_id}):
                return
            taken = waiting_labels.take(session, [one.label.nonce for one in settled])
            if not taken:
                return
            ours = [one for one in settled if one.label.nonce in taken]
            joined = [_joined(one, one.said) for one in ours if one.said is not None]
            failed = [(one.given, one.error) for one in ours if one.error is not None]
            unjoined = [(given, outcome_of(error)) for given, error in failed]
            keeping.settle(session, place.endpoint_id, joined, unjoined)
        outcomes = Counter(outcome for _, outcome in unjoined)
        facts = {"accepted": len(joined), "unmatched": outcomes[Outcome.UNMATCHED], "wrong": outcomes[Outcome.WRONG]}
        # Nobody is there any more to be told of each; the first stands for the others. What is wrong with a label would
        # have the label in it, which is for no log.
        why = next(({"reason": error.message} for _, error in failed if not isinstance(error, WrongLabel)), {})
        _log.info("labels_joined", extra={"endpoint_id": place.endpoint_id, **facts, **why})


def _settled(label: WaitingLabel, predicted: Predicted) -> _Settled:
    try:
        return _Settled(label, _said(predicted, msgspec.json.decode(label.label)))
    except ServingError as error:
        return _Settled(label, None, error)


def _said(predicted: Predicted, label: Label) -> Said:
    """What *label* says of a row that was looked up.

    Raises:
        NoSuchRow, NothingToCompare, WrongLabel: if it says nothing.
    """
    if not predicted.is_there:
        raise NoSuchRow(predicted.rows)
    if predicted.value is not None:
        return compare(predicted.value, label)
    if predicted.numbers is not None:
        return compare_probabilities(predicted.numbers, label)
    raise NothingToCompare("its row in the prediction log has none either")


def _joined(one: _Settled, said: Said) -> Joined:
    return Joined(one.label.place.endpoint_id, one.given, said, one.label.cell, one.label.cluster)


def _asked(label: WaitingLabel) -> Asked:
    return Asked(label.prediction_id, label.row)


def _some_at_once(all_of_them: Sequence[T], count: int) -> Iterator[Sequence[T]]:
    return (all_of_them[begin : begin + count] for begin in range(0, len(all_of_them), count))
