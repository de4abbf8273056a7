"""Brings a version's files to this machine, held to the manifest that it was registered with."""

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import msgspec

from gateway.pool.hosts import LoadFailed
from loaders.cache import ModelCache
from loaders.catalog import Flavor, required_flavor
from loaders.code_policy import UNCHECKED
from loaders.mlmodel import read_mlmodel
from registry import manifests, versions
from registry.entities import ModelVersion, VersionKey
from tracking.artifact_paths import ArtifactPath
from tracking.artifact_stores import open_store
from tracking.artifact_uris import FileUri, S3Uri, parse_artifact_uri
from tracking.artifacts import ArtifactStore, manifest_by_reading
from tracking.database import Database
from tracking.manifest import DigestMismatch, Manifest

_MLMODEL = ArtifactPath.parse("MLmodel")
_MANIFESTS_MAX = 10_000


class VersionHasNoFiles(LoadFailed):
    def __init__(self, version: ModelVersion) -> None:
        super().__init__(
            f"Version {version.version} of {version.name!r} has no MLmodel at {version.artifact_uri} yet; "
            "it is tried again, in case its files are still on their way."
        )


class FetchedModel(msgspec.Struct, frozen=True):
    """A model folder on this machine, its bytes compared with the manifest."""

    folder: Path
    converted: Path
    """Beside it, for what the version's host makes of it to answer faster."""
    digest: str
    files_bytes: int
    flavor: Flavor
    unsettled: Manifest | None = None
    """For a version that is held to no files yet: these, once they are known to be a whole model."""
    unsigned: str | None = UNCHECKED
    """Why no trusted key vouches for these very files; None if one does."""


class FindsObjections(Protocol):
    """What says whether somebody who is trusted has signed a version."""

    def find_objection(self, key: VersionKey, manifest: Manifest) -> str | None:
        """Why not, as a clause for people; None if somebody has."""
        ...


class Fetcher:
    """Where versions come from: the registry says what they are, the store has the bytes, the cache keeps them."""

    def __init__(
        self,
        database: Database,
        store: ArtifactStore,
        cache: ModelCache,
        known: Path,
        manifests_max: int = _MANIFESTS_MAX,
        *,
        signature_check: FindsObjections | None = None,
    ) -> None:
        self._signature_check = signature_check
        self._database = database
        self._store = store
        self._cache = cache
        # Manifests by digest. A version has one digest for good, so what was read once is true without the database.
        self._known = known
        self._manifests_max = manifests_max
        known.mkdir(parents=True, exist_ok=True)
        # What a predecessor was writing when it was killed.
        for partial in known.glob("*.partial"):
            partial.unlink(missing_ok=True)

    @contextmanager
    def fetched(self, key: VersionKey, known_digest: str | None = None) -> Iterator[FetchedModel]:
        """The files of *key*, kept on disk for as long as the block lasts.

        With *known_digest*, as the last table on disk gives it, neither database nor store is needed if the files
        are in the cache.

        Raises:
            LoadFailed: if the version has no files yet.
            DigestMismatch: if the bytes aren't the registered ones.
        """
        manifest = self._known_manifest(known_digest) if known_digest else None
        version = None if manifest else self._version(key)
        settled = version is None or version.digest is not None
        if manifest is None:
            assert version is not None  # noqa: S101  (one of the two is there; for the type checker)
            manifest = self._manifest_of(version)

        def download(path: str) -> Iterator[bytes]:
            store, folder = self._place_of(version or self._version(key))
            with store.open(folder / ArtifactPath.parse(path)) as reader:
                yield from reader.chunks()

        files = {str(path): digest for path, digest in manifest.files.items()}
        with self._cache.lease(manifest.digest, files, download) as folder:
            flavor = required_flavor(read_mlmodel(folder))
            converted = self._cache.converted(manifest.digest)
            unsettled = None if settled else manifest
            # Of the manifest that each byte of the folder was just compared with, and of no other.
            unsigned = self._signature_check.find_objection(key, manifest) if self._signature_check else UNCHECKED
            yield FetchedModel(folder, converted, manifest.digest, manifest.size, flavor, unsettled, unsigned)

    def settle(self, key: VersionKey, manifest: Manifest) -> None:
        """Hold *key*, registered before its files were there, to those that it was loaded with.

        Only now, because a folder whose MLmodel is there may not be whole: frozen too early, it could never be.

        Raises:
            FilesStillComing: if there are others by now.
            DigestMismatch: if another replica has held it to others.
        """
        with self._database.writing() as session:
            version = versions.settle_digest(session, *key, manifest)
        _compare(version, manifest)

    def _version(self, key: VersionKey) -> ModelVersion:
        with self._database.reading() as session:
            return versions.get_version(session, *key)

    def _manifest_of(self, version: ModelVersion) -> Manifest:
        with self._database.reading() as session:
            manifest = manifests.find_manifest(session, version)
        if manifest is None and version.digest is not None:
            manifest = self._known_manifest(version.digest)
        if manifest is None:
            manifest = self._read_manifest(version)
        if version.digest is not None:
            _compare(version, manifest)
        self._remember(manifest)
        return manifest

    def _read_manifest(self, version: ModelVersion) -> Manifest:
        store, folder = self._place_of(version)
        manifest = manifest_by_reading(store, folder)
        if manifest is None or _MLMODEL not in manifest.files:
            raise VersionHasNoFiles(version)
        return manifest

    def _place_of(self, version: ModelVersion) -> tuple[ArtifactStore, ArtifactPath]:
        """The store that holds the version's folder, and where in it."""
        uri = parse_artifact_uri(version.artifact_uri)
        folder = self._store.locate(uri)
        if folder is not None:
            return self._store, folder
        match uri:
            case S3Uri(bucket, key) if key is not None:
                return open_store(f"s3://{bucket}"), key
            case FileUri(path) if path.name:
                return open_store(str(path.parent)), ArtifactPath.parse(path.name)
            case _:
                raise LoadFailed(f"Nothing can be loaded from {version.artifact_uri}.")

    def _known_manifest(self, digest: str) -> Manifest | None:
        try:
            manifest = Manifest.from_text((self._known / digest).read_text())
        except (OSError, ValueError):
            return None
        return manifest if manifest.digest == digest else None

    def _remember(self, manifest: Manifest) -> None:
        target = self._known / manifest.digest
        if not target.exists():
            partial = target.with_suffix(f".{os.getpid()}.partial")
            partial.write_text(manifest.text)
            partial.replace(target)
            self._forget_oldest()

    def _forget_oldest(self) -> None:
        # A version whose manifest is gone asks the database once more; so what was written last is enough to keep.
        manifests_kept = [path for path in self._known.iterdir() if not path.suffix]
        if len(manifests_kept) <= self._manifests_max:
            return
        # Another load may be forgetting the same ones.
        with contextlib.suppress(FileNotFoundError):
            manifests_kept.sort(key=lambda path: path.stat().st_mtime_ns)
            for path in manifests_kept[: -self._manifests_max]:
                path.unlink()


def _compare(version: ModelVersion, manifest: Manifest) -> None:
    if manifest.digest != version.digest:
        raise DigestMismatch(version.artifact_uri, "holds other files than the manifest names")
