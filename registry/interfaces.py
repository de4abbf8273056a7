"""Interfaces: what versions take and give, kept from when their files were first read.

The registry reads no files. Whoever does tells it; a version's files don't change, so it is told once.
"""

import msgspec
from sqlalchemy.orm import Session

from registry.entities import Interface
from registry.schema import InterfaceRow, ModelVersionRow
from tracking.upserts import insert_new


def keep(session: Session, model: str, version: int, digest: str, interface: Interface) -> None:
    """Remember what the version takes and gives whose files are those of *digest*; nothing if there is no such one."""
    row = session.get(ModelVersionRow, (model, version), populate_existing=True)
    if row is not None and row.digest == digest:
        content = msgspec.json.encode(interface).decode()
        insert_new(session, InterfaceRow, [{"name": model, "version": version, "content": content}])


def find(session: Session, model: str, version: int) -> Interface | None:
    """What the version takes and gives; None if its files haven't been read yet."""
    row = session.get(InterfaceRow, (model, version))
    return None if row is None else msgspec.json.decode(row.content, type=Interface)
