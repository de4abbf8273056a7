"""The assignment worked out again, by whoever wants to know why, or whether a log tells the truth. Pure."""

import msgspec

from gateway.scoring.routing import bucket_of
from registry.entities import Route
from registry.splits import expand


class Explanation(msgspec.Struct, frozen=True):
    """Why a unit meets an arm."""

    bucket: int
    arm: str
    version: int


class LoggedAnswer(msgspec.Struct, frozen=True):
    """What a line of a log says of one answer: Titlebout's own log, by its bucket, or a caller's, by its unit.

    Fields that a line doesn't have are None; then there may be nothing to work out.
    """

    endpoint: str | None = None
    epoch: int | None = None
    arm: str | None = None
    version: int | None = None
    bucket: int | None = None
    unit: str | None = None
    fallback_from: str | None = None

    @property
    def was_assigned(self) -> bool:
        """Whether it says what gave it to an arm; callers who name an arm or a version are given none."""
        return bool(self.endpoint and self.epoch and self.arm) and (self.bucket is not None or self.unit is not None)


class Assignment:
    """One endpoint in one epoch: whoever knows this knows every unit's arm."""

    def __init__(self, route: Route) -> None:
        self._route = route
        self._owners = expand(route.owners)

    def explain(self, unit: str) -> Explanation:
        return self._of(bucket_of(self._route.id, self._route.salt, unit))

    def find_fault(self, line: LoggedAnswer) -> str | None:
        """What of *line* isn't as worked out here; None if all of it is."""
        bucket = line.bucket
        if line.unit is not None:
            bucket = bucket_of(self._route.id, self._route.salt, line.unit)
            if line.bucket not in {None, bucket}:
                return f"unit {line.unit!r} has bucket {bucket}, not {line.bucket}"
        if bucket is None or not 0 <= bucket < len(self._owners):
            return f"there is no bucket {bucket}"
        due = self._of(bucket)
        # Who failed was the one assigned; who answered instead is another matter.
        arm, version = (line.arm, line.version) if line.fallback_from is None else (line.fallback_from, None)
        if arm != due.arm:
            return f"bucket {bucket} is {due.arm}'s, not {arm}'s"
        if version not in {None, due.version}:
            return f"{due.arm} is version {due.version}, not {version}"
        return None

    def _of(self, bucket: int) -> Explanation:
        arm = self._owners[bucket]
        return Explanation(bucket, arm, self._route.arms[arm])
