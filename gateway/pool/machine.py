"""How much of this machine the program may use: what its control groups say, else all there is."""

import os
from collections.abc import Iterator
from pathlib import Path

_GROUPS = Path("/sys/fs/cgroup")
# The rest is for workers, warm parents and the system.
_SHARE_OF_MODELS = 0.75


def memory_for_models(bytes_max: int) -> int:
    """*bytes_max*, or for 0 three quarters of what may be used here."""
    return bytes_max or int(_SHARE_OF_MODELS * usable_memory_bytes())


def usable_memory_bytes() -> int:
    """Memory that may be used here before the kernel ends somebody for it."""
    said = _said_by_groups("memory.max", "memory/memory.limit_in_bytes")
    # "max" is no bound; the first version of the interface says a number beyond all memory.
    bounds = [int(text) for text in said if text.strip().isdecimal()]
    return min([os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), *bounds])


def usable_processors() -> int:
    """Processors that may be used at once, at least one."""
    bounds = [len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1]
    for text in _said_by_groups("cpu.max"):
        quota_us, _, period_us = text.partition(" ")
        if quota_us.isdecimal():
            bounds.append(int(quota_us) // int(period_us))
    return max(1, min(bounds))


def _said_by_groups(name: str, old_name: str | None = None) -> Iterator[str]:
    """The file *name* of this process's control group and of those around it, as far as they can be seen."""
    try:
        groups = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    own = next((line.removeprefix("0::/") for line in groups if line.startswith("0::/")), "")
    folders = [folder for folder in (_GROUPS / own, *(_GROUPS / own).parents) if folder.is_relative_to(_GROUPS)]
    for file in [*(folder / name for folder in folders), *([] if old_name is None else [_GROUPS / old_name])]:
        try:
            yield file.read_text()
        except OSError:
            continue
