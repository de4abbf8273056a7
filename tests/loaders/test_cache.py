import errno
import hashlib
import multiprocessing
import os
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from loaders.cache import ModelCache
from loaders.errors import CacheFull, ModelTooLarge
from tracking.artifact_paths import ArtifactPath, InvalidArtifactPath
from tracking.manifest import DigestMismatch, FileDigest, Manifest


class Store:
    """Files of one model, and how often each was asked for."""

    def __init__(self, files):
        self.files = files
        self.digests = {
            path: FileDigest(hashlib.sha256(content).hexdigest(), len(content)) for path, content in files.items()
        }
        self.digest = Manifest({ArtifactPath.parse(path): file for path, file in self.digests.items()}).digest
        self.fetched = []

    def fetch(self, path):
        self.fetched.append(path)
        content = self.files[path]
        yield content[: len(content) // 2]
        yield content[len(content) // 2 :]

    def lease(self, cache):
        return cache.lease(self.digest, self.digests, self.fetch)


def iris():
    return Store({"MLmodel": b"flavors: {}", "data/model.bin": b"x" * 1000})


def leftovers(tmp_path):
    return list((tmp_path / "incoming").iterdir())


def test_files_are_fetched_once_and_then_found_by_a_new_process_too(tmp_path):
    store = iris()
    for _ in range(2):
        with store.lease(ModelCache(tmp_path, 10_000)) as folder:
            assert (folder / "data" / "model.bin").read_bytes() == b"x" * 1000
    assert store.fetched == ["MLmodel", "data/model.bin"]
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize(
    "corrupt",
    [
        pytest.param(lambda folder: (folder / "data/model.bin").write_bytes(b"y" * 1000), id="changed"),
        pytest.param(lambda folder: (folder / "data/model.bin").write_bytes(b"x" * 10), id="cut"),
        pytest.param(lambda folder: (folder / "MLmodel").unlink(), id="missing"),
        pytest.param(lambda folder: (folder / "more.py").write_text("print()"), id="added"),
        pytest.param(
            lambda folder: ((folder / "MLmodel").unlink(), (folder / "MLmodel").symlink_to("/etc/hostname")),
            id="linked",
        ),
    ],
)
def test_an_entry_that_changed_on_disk_is_fetched_anew(tmp_path, corrupt):
    store, cache = iris(), ModelCache(tmp_path, 10_000)
    with store.lease(cache) as folder:
        corrupt(folder)
    with store.lease(cache) as folder:
        assert (folder / "data" / "model.bin").read_bytes() == b"x" * 1000
        assert (folder / "MLmodel").read_bytes() == b"flavors: {}"
    assert len(store.fetched) == 4


def test_a_cache_that_somebody_removed_is_made_anew(tmp_path):
    store, root = iris(), tmp_path / "cache"
    cache = ModelCache(root, 10_000)
    with store.lease(cache):
        shutil.rmtree(root)
    with store.lease(cache) as folder:
        assert (folder / "MLmodel").read_bytes() == b"flavors: {}"


@pytest.mark.parametrize("content", [b"z" * 1000, b"x" * 999, b"x" * 1001])
def test_bytes_that_were_not_registered_are_refused_and_leave_nothing(tmp_path, content):
    store, cache = iris(), ModelCache(tmp_path, 10_000)
    store.files["data/model.bin"] = content
    with pytest.raises(DigestMismatch, match=r"data/model\.bin"), store.lease(cache):
        pass
    assert cache.used_bytes() == 0
    assert leftovers(tmp_path) == []


def test_a_path_out_of_the_model_is_refused_before_anything_is_fetched(tmp_path):
    store = Store({"ok": b"1"})
    with pytest.raises(InvalidArtifactPath):
        with ModelCache(tmp_path, 100).lease("a" * 64, {"../x": store.digests["ok"]}, store.fetch):
            pass
    assert store.fetched == []


def test_the_least_recently_used_goes_first_and_what_is_leased_stays(tmp_path):
    cache = ModelCache(tmp_path, 250)
    a, b, c = (Store({"f": letter * 100}) for letter in (b"a", b"b", b"c"))
    with a.lease(cache):
        with b.lease(cache):
            pass
        with c.lease(cache):  # a is older than b, but in use
            pass
    for store in (a, c, b):
        with store.lease(cache):
            pass
    assert (len(a.fetched), len(b.fetched), len(c.fetched)) == (1, 2, 1)
    assert cache.used_bytes() == 200


def test_a_model_that_does_not_fit_is_refused_with_the_figures(tmp_path):
    cache = ModelCache(tmp_path, 250)
    small, large = Store({"f": b"s" * 200}), Store({"f": b"l" * 300})
    with pytest.raises(ModelTooLarge, match=r"300 bytes.*250 bytes"), large.lease(cache):
        pass
    with small.lease(cache):
        other = Store({"f": b"o" * 100})
        with pytest.raises(ModelTooLarge, match=r"100 bytes.*50 are free"), other.lease(cache):
            pass
    assert leftovers(tmp_path) == []


def test_a_full_disk_is_said_and_cleaned_up(tmp_path):
    store, cache = iris(), ModelCache(tmp_path, 10_000)

    def fill(path):
        yield b"x"
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(CacheFull, match="disk"), cache.lease(store.digest, store.digests, fill):
        pass
    assert leftovers(tmp_path) == []


def test_many_threads_that_want_one_model_fetch_it_once(tmp_path):
    store = iris()
    cache = ModelCache(tmp_path, 10_000)
    together = threading.Barrier(8)

    def use(_):
        together.wait()
        with store.lease(cache) as folder:
            return (folder / "MLmodel").read_bytes()

    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(use, range(8))) == {b"flavors: {}"}
    assert sorted(store.fetched) == ["MLmodel", "data/model.bin"]


def _lease_and_die(root, ready):
    store = iris()

    def fetch(path):
        yield b"f"
        ready.set()
        os._exit(1)

    with ModelCache(root, 10_000).lease(store.digest, store.digests, fetch):
        pass


def _lease_and_wait(root, ready, done):
    with iris().lease(ModelCache(root, 10_000)):
        ready.set()
        done.wait(60)


def test_what_a_killed_process_left_is_swept_and_blocks_nobody(tmp_path):
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    process = context.Process(target=_lease_and_die, args=(tmp_path, ready))
    process.start()
    process.join(60)
    assert ready.is_set()
    assert leftovers(tmp_path)
    cache = ModelCache(tmp_path, 1_011)
    assert leftovers(tmp_path) == []
    with iris().lease(cache) as folder:
        assert (folder / "MLmodel").exists()


def test_another_processes_lease_keeps_its_files(tmp_path):
    context = multiprocessing.get_context("spawn")
    ready, done = context.Event(), context.Event()
    process = context.Process(target=_lease_and_wait, args=(tmp_path, ready, done))
    process.start()
    try:
        assert ready.wait(60)
        other = Store({"f": b"o" * 9_500})
        cache = ModelCache(tmp_path, 10_000)
        with pytest.raises(ModelTooLarge), other.lease(cache):
            pass
    finally:
        done.set()
        process.join(60)
    with other.lease(cache):
        assert cache.used_bytes() == 9_500


def test_what_was_made_of_a_model_is_counted_and_goes_with_it(tmp_path):
    cache, first, second = ModelCache(tmp_path, 2_000), iris(), Store({"MLmodel": b"flavors: {second: }" * 40})
    with first.lease(cache):
        before = cache.used_bytes()
        made = cache.converted(first.digest) / "onnxruntime"
        made.write_bytes(b"x" * 500)
        assert cache.used_bytes() == before + 500
    with second.lease(cache):
        assert not made.exists()
