"""What is signed: an in-toto statement that names one registered version and the SHA-256 of each of its files.

The predicate is that of the OpenSSF's model signing (https://model_signing/signature/v1.0), so that whoever has the
files and the key can check them without us. The subject is the version's URI, ``models:/NAME/VERSION``: the same files
under another name or number are another subject, which nobody has vouched for.
"""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal

import msgspec

from registry.entities import VersionKey
from registry.signing.errors import InvalidSignature
from tracking.manifest import Manifest

PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"
_STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
_PREDICATE_TYPE: Final = "https://model_signing/signature/v1.0"
_SHOWN_MAX = 3


class _Resource(msgspec.Struct):
    name: str
    algorithm: Literal["sha256"]
    digest: str


class _Serialization(msgspec.Struct):
    method: Literal["files"] = "files"
    hash_type: Literal["sha256"] = "sha256"
    allow_symlinks: bool = False
    ignore_paths: list[str] = []


class _Predicate(msgspec.Struct):
    serialization: _Serialization
    resources: list[_Resource]


class _Subject(msgspec.Struct):
    name: str
    digest: dict[str, str]


class _Statement(msgspec.Struct):
    type: Literal["https://in-toto.io/Statement/v1"] = msgspec.field(name="_type")
    subject: list[_Subject]
    predicate_type: Literal["https://model_signing/signature/v1.0"] = msgspec.field(name="predicateType")
    predicate: _Predicate


def subject_of(key: VersionKey) -> str:
    name, version = key
    return f"models:/{name}/{version}"


def statement_of(key: VersionKey, manifest: Manifest) -> bytes:
    """The statement that the version *key* is made of the files of *manifest*: the bytes to be signed."""
    # By the bytes of their paths, as the manifest's own text has them.
    ordered = sorted(manifest.files.items(), key=lambda item: str(item[0]).encode())
    resources = [_Resource(str(path), "sha256", digest.sha256) for path, digest in ordered]
    statement = _Statement(
        _STATEMENT_TYPE,
        [_Subject(subject_of(key), {"sha256": _digest_of(resources)})],
        _PREDICATE_TYPE,
        _Predicate(_Serialization(), resources),
    )
    return msgspec.json.encode(statement)


def require_stated(payload: bytes, key: VersionKey, manifest: Manifest | None) -> None:
    """Let *payload* pass only if it states that *key* is made of just the files of *manifest*.

    Without *manifest*, whose files nobody has seen yet, only the version is compared.

    Raises:
        InvalidSignature: saying what it states instead.
    """
    statement = _decode(payload)
    subjects = [subject.name for subject in statement.subject]
    if subjects != [subject_of(key)]:
        raise InvalidSignature(f"The signature is for {', '.join(subjects[:_SHOWN_MAX]) or 'nothing'}.")
    resources = statement.predicate.resources
    signed = {resource.name: resource.digest for resource in resources}
    if len(signed) != len(resources) or statement.subject[0].digest != {"sha256": _digest_of(resources)}:
        raise InvalidSignature("The signature's list of files contradicts itself.")
    if statement.predicate.serialization.allow_symlinks:
        raise InvalidSignature("The signature lets links stand for files.")
    if manifest is not None:
        _compare(signed, {str(path): digest.sha256 for path, digest in manifest.files.items()})


def _compare(signed: Mapping[str, str], held: Mapping[str, str]) -> None:
    differing = sorted(path for path in signed.keys() | held.keys() if signed.get(path) != held.get(path))
    if differing:
        more = ", …" if len(differing) > _SHOWN_MAX else ""
        shown = ", ".join(repr(path) for path in differing[:_SHOWN_MAX])
        raise InvalidSignature(f"The signature is for other files: {shown}{more} not as signed.")


def _decode(payload: bytes) -> _Statement:
    try:
        return msgspec.json.decode(payload, type=_Statement)
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidSignature(f"The signature signs no statement of a model's files: {error}.") from error


def _digest_of(resources: Iterable[_Resource]) -> str:
    """As model signing has it: SHA-256 of all files' digests, one after the other."""
    digests: Any = hashlib.sha256()
    for resource in resources:
        try:
            digests.update(bytes.fromhex(resource.digest))
        except ValueError as error:
            raise InvalidSignature(f"The signature's digest of {resource.name!r} is none.") from error
    said: str = digests.hexdigest()
    return said
