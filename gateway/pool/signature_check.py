"""Is a version signed by who is trusted? Asked by each load where the code policy is ``signed``, and never before.

What was read of the database is kept on disk, so that a replica comes back without it. A signature speaks for itself:
whoever changes what is kept there can only make it worthless.
"""

import contextlib
import hashlib
import logging
import os
from collections.abc import Callable
from pathlib import Path

import msgspec

from registry import signatures
from registry.entities import VersionKey
from registry.errors import ModelVersionNotFound
from registry.signing.errors import NotSigned
from registry.signing.keys import trusted_keys
from registry.signing.verification import signer_of
from tracking.database import Database, DatabaseUnavailable
from tracking.manifest import Manifest

_log = logging.getLogger(__name__)

_KEPT_MAX = 10_000
# It travels to a host within one message, and is read by people.
_OBJECTION_CHARACTERS_MAX = 2_000


class SignatureCheck:
    """Holds versions to the keys that *setting* names, a folder or PEM, as they are at that moment."""

    def __init__(self, database: Database, setting: str, kept: Path, *, clock: Callable[[], float]) -> None:
        self._database = database
        self._setting = setting
        self._kept = kept
        self._clock = clock
        kept.mkdir(parents=True, exist_ok=True)

    def find_objection(self, key: VersionKey, manifest: Manifest) -> str | None:
        """Why nobody who is trusted vouches for *key* with just the files of *manifest*; None if somebody does."""
        name, version = key
        try:
            signer = signer_of(
                key, manifest, self._bundles(key), trusted_keys(self._setting), int(self._clock() * 1000)
            )
        except NotSigned as error:
            return error.message[:_OBJECTION_CHARACTERS_MAX]
        extra = {"model": name, "version": version, "key": signer.key, "key_id": signer.key_id}
        _log.info("signature_verified", extra=extra)
        return None

    def _bundles(self, key: VersionKey) -> list[str]:
        try:
            with self._database.reading() as session:
                bundles = [signature.bundle for signature in signatures.list_signatures(session, *key)]
        except DatabaseUnavailable:
            return self._recall(key)
        except ModelVersionNotFound:
            return []
        self._keep(key, bundles)
        return bundles

    def _keep(self, key: VersionKey, bundles: list[str]) -> None:
        target = self._place_of(key)
        if not bundles:
            target.unlink(missing_ok=True)
            return
        partial = target.with_suffix(f".{os.getpid()}.partial")
        partial.write_bytes(msgspec.json.encode(bundles))
        partial.replace(target)
        self._forget_oldest()

    def _recall(self, key: VersionKey) -> list[str]:
        try:
            return msgspec.json.decode(self._place_of(key).read_bytes(), type=list[str])
        except (OSError, msgspec.DecodeError):
            return []

    def _place_of(self, key: VersionKey) -> Path:
        # A name may hold what a file's can't.
        return self._kept / hashlib.sha256(f"{key[0]}\0{key[1]}".encode()).hexdigest()

    def _forget_oldest(self) -> None:
        # Another load may be forgetting the same ones.
        with contextlib.suppress(FileNotFoundError):
            kept = sorted(self._kept.iterdir(), key=lambda path: path.stat().st_mtime_ns)
            for path in kept[:-_KEPT_MAX]:
                path.unlink()
