"""A skops file is what skops writes: an archive of records with plain names, each once.

skops reads its records without unpacking them, so a link or a way out among them does nothing today. Nobody honest
writes one, and whoever unpacks such a file by hand, or another reader of it, may well follow.
"""

import stat
import zipfile
from pathlib import Path


def find_odd_record(path: Path) -> str | None:
    """What in the archive at *path* skops wouldn't have written, as a clause; None if it is all plain.

    Raises:
        zipfile.BadZipFile: if it is no archive.
    """
    with zipfile.ZipFile(path) as archive:
        infos = archive.infolist()
    if len({info.filename for info in infos}) != len(infos):
        # Two readers may take different ones of two equal names.
        return "it holds a record twice"
    for info in infos:
        mode = info.external_attr >> 16
        if "/" in info.filename or "\\" in info.filename or info.filename in {".", ".."}:
            return f"it holds {info.filename[:60]!r}, which is no plain name"
        if stat.S_IFMT(mode) not in {0, stat.S_IFREG}:
            return f"{info.filename[:60]!r} is no plain file"
    return None
