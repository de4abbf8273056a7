"""How many threads a prediction may take, and the variables by which its libraries are told as they come in."""

from collections.abc import Mapping

from gateway.pool.machine import usable_processors
from loaders.catalog import Flavor

# The last is joblib's, for estimators that ask for all processors.
_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "RAYON_NUM_THREADS",
    "LOKY_MAX_CPU_COUNT",
)


def threads_for(flavor: str, wanted: int, environment: Mapping[str, str]) -> int:
    """How many threads one prediction may take.

    What was *wanted*, else what ``OMP_NUM_THREADS`` says, else one for scikit-learn, whose sums then come in one order,
    and half of the processors for others: an endpoint has two arms, and the workers need some too.
    """
    if wanted:
        return wanted
    given = environment.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    if given.isdecimal() and int(given) > 0:
        return int(given)
    return 1 if flavor == Flavor.SKLEARN else max(1, usable_processors() // 2)


def variables(flavor: str, wanted: int, environment: Mapping[str, str]) -> dict[str, str]:
    """The environment that has libraries take so many. What is set for one stays, unless another is *wanted*."""
    count = str(threads_for(flavor, wanted, environment))
    return {name: count if wanted else environment.get(name) or count for name in _VARIABLES}
