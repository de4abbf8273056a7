"""Copies artifacts from one store to another, several at once, hashing what passes through."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

from tracking.artifact_paths import ArtifactPath
from tracking.artifacts import ArtifactStore
from tracking.manifest import FileDigest

# A store far away answers slowly, not seldom. Each has a chunk of a megabyte, and S3's parts, in memory.
_AT_ONCE = 4

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def copy_artifact(source: ArtifactStore, target: ArtifactStore, path: ArtifactPath) -> FileDigest:
    """Copy one file, in place of what *target* has there, and say what it held.

    Raises:
        ArtifactNotFound: if *source* has no such file.
    """
    with source.open(path) as reader, target.upload(path) as upload:
        for chunk in reader.chunks():
            upload.write(chunk)
        upload.finish()
        upload.publish()
        return upload.digest


def several_at_once(work: Callable[[_Item], _Result], items: Iterable[_Item]) -> Iterator[_Result]:
    """`map` in threads, in order, that never takes more of *items* than it works on."""
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        remaining = iter(items)
        while batch := list(islice(remaining, _AT_ONCE * 8)):
            yield from threads.map(work, batch)
