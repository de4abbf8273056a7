"""The signatures of versions, kept as they come and believed by nobody here: whether they count, a load finds out."""

import msgspec
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from registry.entities import VersionSignature
from registry.errors import TooManySignatures
from registry.manifests import find_manifest
from registry.rows import get_version_row, to_version
from registry.schema import VersionSignatureRow
from registry.signing.bundle import KEY_ID_LENGTH, read_bundle
from registry.signing.errors import SignatureNotFound
from registry.signing.statement import require_stated
from tracking.names import check_text
from tracking.upserts import upsert

SIGNATURES_MAX = 16
"""Of one version: a key each."""


def put_signature(
    session: Session, name: str, version: int, bundle: str, *, author: str, now_ms: int
) -> VersionSignature:
    """Keep *bundle* as the version's signature by its key, in place of one that this key made before.

    Raises:
        ModelVersionNotFound: if there is no such version.
        InvalidSignature: if it is no signature of this version's files.
        TooManySignatures: if as many others have signed as may.
    """
    row = get_version_row(session, name, version, lock=True)
    signed = read_bundle(bundle)
    require_stated(signed.payload, (name, version), find_manifest(session, to_version(session, row)))
    others = (
        VersionSignatureRow.name == name,
        VersionSignatureRow.version == version,
        VersionSignatureRow.key_id != signed.key_id,
    )
    if (session.scalar(select(func.count()).select_from(VersionSignatureRow).where(*others)) or 0) >= SIGNATURES_MAX:
        raise TooManySignatures(name, version, SIGNATURES_MAX)
    kept = VersionSignature(
        name=name, version=version, key_id=signed.key_id, bundle=bundle, author=author, created_ms=now_ms
    )
    upsert(session, VersionSignatureRow, [msgspec.structs.asdict(kept)])
    return kept


def list_signatures(session: Session, name: str, version: int) -> list[VersionSignature]:
    """All signatures of the version, the oldest first.

    Raises:
        ModelVersionNotFound: if there is no such version.
    """
    get_version_row(session, name, version)
    of_version = (VersionSignatureRow.name == name, VersionSignatureRow.version == version)
    query = select(VersionSignatureRow).where(*of_version)
    rows = session.scalars(query.order_by(VersionSignatureRow.created_ms, VersionSignatureRow.key_id))
    return [
        VersionSignature(
            name=row.name,
            version=row.version,
            key_id=row.key_id,
            bundle=row.bundle,
            author=row.author,
            created_ms=row.created_ms,
        )
        for row in rows
    ]


def delete_signature(session: Session, name: str, version: int, key_id: str) -> None:
    """Take back what the key signed; a version in memory stays there.

    Raises:
        SignatureNotFound: if the version has none by that key.
    """
    check_text(key_id, "key_id", KEY_ID_LENGTH)
    get_version_row(session, name, version, lock=True)
    row = session.get(VersionSignatureRow, (name, version, key_id))
    if row is None:
        raise SignatureNotFound(name, version, key_id)
    session.delete(row)
    session.flush()
