"""What a gate needs, as people write and read it: `accuracy >= 0.9`, `2 approvals`, `load test within 14d`."""

import math
import re
from typing import cast

from registry.entities import (
    ApprovalNeeded,
    Comparator,
    Gate,
    LoadTestNeeded,
    MetricNeeded,
    Need,
    SignatureNeeded,
    VerdictAsked,
    VerdictNeeded,
)

FORMS = "'accuracy >= 0.9', 'approval', '2 approvals', 'signature', 'load test within 14d', 'accuracy better'"
"""One of each kind, for whoever wrote none of them."""

_APPROVALS = re.compile(r"(?:(?P<count>\d{1,4})\s+)?approvals?")
_LOAD_TEST = re.compile(r"load test(?:\s+within\s+(?P<days>\d{1,6})d)?")
_VERDICT = re.compile(r"(?P<metric>\S.*?)\s+(?P<verdict>better|not worse)(?:\s+within\s+(?P<hours>\d{1,6})h)?")
_METRIC = re.compile(r"(?P<metric>.+?)\s*(?P<comparator>>=|<=|>|<)\s*(?P<value>[-+0-9.eE]+)")


def read(text: str) -> Need | None:
    """What *text* asks for; None if nothing that a gate can."""
    text = text.strip()
    if text == "signature":
        return SignatureNeeded()
    if found := _APPROVALS.fullmatch(text):
        return ApprovalNeeded(int(found["count"] or 1))
    if found := _LOAD_TEST.fullmatch(text):
        return LoadTestNeeded() if found["days"] is None else LoadTestNeeded(int(found["days"]))
    if found := _VERDICT.fullmatch(text):
        verdict = cast("VerdictAsked", found["verdict"].replace(" ", "_"))
        return VerdictNeeded(found["metric"], verdict, None if found["hours"] is None else int(found["hours"]))
    if found := _METRIC.fullmatch(text):
        try:
            value = float(found["value"])
        except ValueError:
            return None
        if math.isfinite(value):
            return MetricNeeded(found["metric"], cast("Comparator", found["comparator"]), value)
    return None


def words(needs: Need) -> str:
    """*needs* as `read` reads it."""
    match needs:
        case MetricNeeded():
            return f"{needs.metric} {needs.comparator} {number(needs.value)}"
        case ApprovalNeeded():
            return "1 approval" if needs.count == 1 else f"{needs.count} approvals"
        case SignatureNeeded():
            return "signature"
        case LoadTestNeeded():
            return f"load test within {needs.within_days}d"
        case VerdictNeeded():
            within = "" if needs.within_hours is None else f" within {needs.within_hours}h"
            return f"{needs.metric} {needs.verdict.replace('_', ' ')}{within}"


def number(value: float) -> str:
    """*value* with all of its digits: one that just isn't enough mustn't read as if it were."""
    return repr(value).removesuffix(".0")


def before(gate: Gate) -> str:
    """What the gate stands before."""
    said = [f"{alias} moves" for alias in gate.aliases]
    if gate.share_over_bp is not None:
        said.append(f"a version has over {gate.share_over_bp / 100:g} %")
    return ", or ".join(said)
