"""What faults and overload cost the callers, scenario by scenario. Run by `make chaos`.

Each scenario starts servers of its own on loopback, in a throw-away folder, and prints a line or more. Ends with status
1 if anything that was promised didn't hold.
"""

import argparse
import os
import secrets
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from loadtests.chaos.findings import HEADING, Finding
from loadtests.chaos.scenarios.cold import cold
from loadtests.chaos.scenarios.flips import flips
from loadtests.chaos.scenarios.kills import kills
from loadtests.chaos.scenarios.loads import loads
from loadtests.chaos.scenarios.neighbours import neighbours
from loadtests.chaos.scenarios.outages import outages
from loadtests.chaos.scenarios.overload import overload
from loadtests.chaos.scenarios.predicts import predicts
from loadtests.chaos.scenarios.restarts import restarts
from loadtests.chaos.scenarios.soak import soak
from loadtests.chaos.stage import Stage

Scenario = Callable[[Stage], Iterator[Finding]]

SCENARIOS: dict[str, Scenario] = {
    "flips": flips,
    "loads": loads,
    "predicts": predicts,
    "neighbours": neighbours,
    "restarts": restarts,
    "kills": kills,
    "outages": outages,
    "overload": overload,
    "cold": cold,
}


def main() -> None:
    options = _options()
    seed = secrets.randbelow(2**32) if options.seed is None else options.seed
    chosen = {name: SCENARIOS[name] for name in options.only or SCENARIOS}
    if options.soak:
        chosen = {"soak": partial(soak, requests=options.requests, flips=options.flips)}
    print(f"seed {seed}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n\n{HEADING}", flush=True)
    held = [_play(name, scenario, seed, is_quick=options.quick) for name, scenario in chosen.items()]
    sys.exit(0 if all(held) else 1)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=SCENARIOS, metavar="SCENARIO", help=", ".join(SCENARIOS))
    parser.add_argument("--quick", action="store_true", help="as little of each as shows the thing")
    parser.add_argument("--seed", type=int, help="of all chance; printed, so that a run can be had again")
    parser.add_argument("--soak", action="store_true", help="nothing but many requests and flips, and what they leave")
    parser.add_argument("--requests", type=int, default=1_000_000, help="of the soak")
    parser.add_argument("--flips", type=int, default=1_000, help="of the soak")
    return parser.parse_args()


def _play(name: str, scenario: Scenario, seed: int, *, is_quick: bool) -> bool:
    """Print what is found, and say whether all of it held."""
    held, began_s = True, time.monotonic()
    with tempfile.TemporaryDirectory(prefix="titlebout-chaos-") as folder:
        try:
            for finding in scenario(Stage(Path(folder), seed=seed, is_quick=is_quick)):
                print(finding.line(), flush=True)
                held = held and finding.held
        except Exception as error:  # One that breaks off is one that didn't hold, and the others are still to come.
            held = False
            print(Finding.broken_off(name, error).line(), flush=True)
    # Apart from the table, which people keep.
    print(f"  … {name} took {time.monotonic() - began_s:.0f} s", file=sys.stderr, flush=True)
    return held


if __name__ == "__main__":
    main()
