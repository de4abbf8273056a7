"""What is remembered of versions on disk has a bound."""

import os

from gateway.pool.fetching import Fetcher
from loaders.cache import ModelCache
from tracking.artifact_paths import ArtifactPath
from tracking.artifact_stores import open_store
from tracking.database import Database
from tracking.manifest import FileDigest, Manifest


def test_of_many_manifests_those_written_last_are_kept(tmp_path):
    database = Database(f"sqlite:///{tmp_path}/titlebout.db")
    known, store = tmp_path / "known", open_store(str(tmp_path / "artifacts"))
    fetcher = Fetcher(database, store, ModelCache(tmp_path / "cache", 1 << 20), known, manifests_max=2)
    manifests = [Manifest({ArtifactPath.parse("MLmodel"): FileDigest(str(n) * 64, n)}) for n in range(4)]
    for age, manifest in enumerate(manifests):
        fetcher._remember(manifest)
        os.utime(known / manifest.digest, (age, age))
    assert {path.name for path in known.iterdir()} == {manifest.digest for manifest in manifests[2:]}
    assert fetcher._known_manifest(manifests[3].digest) == manifests[3]
    assert fetcher._known_manifest(manifests[0].digest) is None
    database.dispose()
