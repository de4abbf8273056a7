"""Titlebout's own API for signed versions: what there is to sign, and the signatures that were brought.

A signature is kept if it is one of this version's files. Whether its key is trusted is asked at each load, and by
whoever fetches it from here; this server's word for it would be worth nothing to them.
"""

from collections.abc import Callable

import msgspec
from litestar import delete, get, put
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody
from litestar.status_codes import HTTP_200_OK

from gateway.auth import needs
from registry import manifests, signatures, versions
from registry.entities import VersionSignature
from tracking.access.caller import caller_of
from tracking.access.permissions import Permission
from tracking.database import Database
from tracking.manifest import FileDigest

_VERSION = "/api/1.0/titlebout/models/{name:str}/versions/{version:int}"

Clock = Callable[[], float]


class FileEntry(msgspec.Struct, frozen=True, kw_only=True):
    path: str
    sha256: str
    size: int


class VersionFiles(msgspec.Struct, kw_only=True):
    """What a version is held to."""

    name: str
    version: int
    digest: str | None
    files: list[FileEntry] | None
    """None for a version that was registered before its files, and hasn't been loaded; and for one whose files lie
    outside the artifact root."""


class PutSignature(msgspec.Struct, forbid_unknown_fields=True):
    bundle: str
    """A Sigstore bundle, JSON."""


class SignatureAnswer(msgspec.Struct, kw_only=True):
    key_id: str
    author: str
    created_ms: int
    bundle: str


class Signatures(msgspec.Struct, kw_only=True):
    signatures: list[SignatureAnswer]


@get(f"{_VERSION}/files", sync_to_thread=True, opt=needs(Permission.REGISTRY_READ))
def list_files(name: FromPath[str], version: FromPath[int], database: NamedDependency[Database]) -> VersionFiles:
    """Each file that the version is held to, with its digest."""
    with database.reading() as session:
        found = versions.get_version(session, name, version)
        manifest = manifests.find_manifest(session, found)
    files = None if manifest is None else [_entry(str(path), digest) for path, digest in manifest.files.items()]
    return VersionFiles(name=found.name, version=found.version, digest=found.digest, files=files)


@get(f"{_VERSION}/signatures", sync_to_thread=True, opt=needs(Permission.REGISTRY_READ))
def list_signatures(name: FromPath[str], version: FromPath[int], database: NamedDependency[Database]) -> Signatures:
    with database.reading() as session:
        found = signatures.list_signatures(session, name, version)
    return Signatures(signatures=[_answer(signature) for signature in found])


@put(f"{_VERSION}/signatures", sync_to_thread=True, opt=needs(Permission.REGISTRY_WRITE))
def put_signature(
    name: FromPath[str],
    version: FromPath[int],
    data: JSONBody[PutSignature],
    database: NamedDependency[Database],
    clock: NamedDependency[Clock],
) -> SignatureAnswer:
    """Keep a signature of the version's files, in place of one by the same key."""
    with database.writing() as session:
        kept = signatures.put_signature(
            session, name, version, data.bundle, author=caller_of(session).name, now_ms=int(clock() * 1000)
        )
    return _answer(kept)


@delete(
    f"{_VERSION}/signatures/{{key_id:str}}",
    sync_to_thread=True,
    status_code=HTTP_200_OK,
    opt=needs(Permission.REGISTRY_WRITE),
)
def delete_signature(
    name: FromPath[str], version: FromPath[int], key_id: FromPath[str], database: NamedDependency[Database]
) -> dict[str, str]:
    """Take a signature back. What is loaded stays; the next load finds it gone."""
    with database.writing() as session:
        signatures.delete_signature(session, name, version, key_id)
    return {"key_id": key_id}


def _entry(path: str, digest: FileDigest) -> FileEntry:
    return FileEntry(path=path, sha256=digest.sha256, size=digest.size)


def _answer(signature: VersionSignature) -> SignatureAnswer:
    return SignatureAnswer(
        key_id=signature.key_id,
        author=signature.author,
        created_ms=signature.created_ms,
        bundle=signature.bundle,
    )


handlers = [list_files, list_signatures, put_signature, delete_signature]
