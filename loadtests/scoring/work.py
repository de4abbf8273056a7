"""The rows of the table: what is asked of which servers, and the figures to reach."""

from typing import Literal, NamedTuple

from loadtests.scoring.models import FOREST, LOGISTIC, TEXT
from loadtests.scoring.servers import ECHO, KEYED, LOGGING_ECHO, MLFLOW, UNBATCHED, UNCOMPARED

Part = Literal["start", "logistic", "forest", "large", "text"]
"""What `--rows` chooses from."""

Figure = Literal["per_s", "rows_per_s", "p99_ms", "processor_us", "start_s", "memory_mib"]
"""What is compared."""


class Goal(NamedTuple):
    """How Titlebout's *figure* is to compare with that of the server *beside* it."""

    figure: Figure
    beside: str
    at_least: float | None = None
    at_most: float | None = None

    def reached(self, ratio: float) -> bool:
        return (self.at_least is None or ratio >= self.at_least) and (self.at_most is None or ratio <= self.at_most)

    @property
    def said(self) -> str:
        return f"at least {self.at_least:g} x" if self.at_least is not None else f"at most {self.at_most:g} x"


class Work(NamedTuple):
    """So many connections, each asking one model for so many rows, again and again."""

    part: Part
    model: str
    rows: int
    connections: int
    goals: tuple[Goal, ...]

    @property
    def title(self) -> str:
        rows = "1 row" if self.rows == 1 else f"{self.rows} rows"
        return f"{_NAMES[self.model]}, {rows}, {self.connections} connection{'s' * (self.connections > 1)}"

    @property
    def slug(self) -> str:
        """Its title as a part of a file's name."""
        return f"{self.model}-{self.rows}-rows-{self.connections}-connections"


_NAMES = {LOGISTIC: "logistic regression", FOREST: "forest of 100 trees", TEXT: "text classifier"}


def _times_mlflow(ratio: float, figure: Figure = "per_s") -> Goal:
    return Goal(figure, MLFLOW, at_least=ratio)


STARTS = (Goal("start_s", MLFLOW, at_most=0.4), Goal("memory_mib", MLFLOW, at_most=0.8))
"""Of the server of the logistic regression."""

WORKS = (
    Work("logistic", LOGISTIC, rows=1, connections=1, goals=(_times_mlflow(9),)),
    Work("logistic", LOGISTIC, rows=1, connections=8, goals=(_times_mlflow(18),)),
    Work(
        "logistic",
        LOGISTIC,
        rows=1,
        connections=32,
        goals=(
            _times_mlflow(20),
            Goal("p99_ms", MLFLOW, at_most=0.1),
            Goal("processor_us", ECHO, at_most=2.2),
            # Titlebout logs each request, so this is the echo that does the same things.
            Goal("processor_us", LOGGING_ECHO, at_most=2.2),
            # What checking a key may cost: at most a twentieth.
            Goal("processor_us", KEYED, at_least=0.95),
            # And what comparing arms may.
            Goal("processor_us", UNCOMPARED, at_most=1.05),
            Goal("per_s", UNCOMPARED, at_least=0.95),
        ),
    ),
    Work("logistic", LOGISTIC, rows=1, connections=128, goals=(_times_mlflow(30),)),
    Work("large", LOGISTIC, rows=1000, connections=4, goals=(_times_mlflow(8, "rows_per_s"),)),
    Work("forest", FOREST, rows=1, connections=1, goals=(_times_mlflow(25),)),
    Work("forest", FOREST, rows=1, connections=32, goals=(_times_mlflow(120),)),
    Work("forest", FOREST, rows=1, connections=128, goals=(_times_mlflow(120),)),
    Work("large", FOREST, rows=1000, connections=4, goals=(_times_mlflow(8, "rows_per_s"),)),
    Work("text", TEXT, rows=1, connections=32, goals=(Goal("rows_per_s", UNBATCHED, at_least=3),)),
)
