"""Sets of artifact folders, asked about paths without a database or a store."""

from collections.abc import Iterable

from tracking.artifact_paths import ArtifactPath


class Folders:
    """Some folders of the artifact store."""

    def __init__(self, folders: Iterable[ArtifactPath]) -> None:
        self._folders = frozenset(folders)
        self._on_the_way = frozenset(above for folder in self._folders for above in folder.ancestors())

    def cover(self, path: ArtifactPath) -> bool:
        """Whether *path* is one of the folders or lies in one."""
        return any(above in self._folders for above in path.ancestors())

    def touch(self, path: ArtifactPath) -> bool:
        """Whether one of the folders is *path*, lies above it or below it."""
        return path in self._on_the_way or self.cover(path)
