"""What part of the traffic each arm and version was seen to get."""

from collections import Counter


class Shares:
    def __init__(self) -> None:
        self._arms: Counter[str] = Counter()
        self._versions: Counter[str] = Counter()

    def add(self, *, arm: str, version: str) -> None:
        """Count which arm a request of no unit was given.

        Those of a unit would bend the shares: a user whose arm is quick asks it more often than the others ask theirs.
        """
        self._arms[arm] += 1
        self._versions[version] += 1

    def lines(self) -> list[str]:
        return [f"arms       {_said(self._arms)}", f"versions   {_said(self._versions)}"]


def _said(counts: Counter[str]) -> str:
    total = counts.total()
    return "  ".join(f"{name} {count / total:.1%}" for name, count in counts.most_common()) or "none seen"
