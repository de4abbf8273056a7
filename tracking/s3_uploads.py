"""Uploads to S3: a small file is one PUT, a large one a multipart upload whose parts are sent several at once.

What is in memory is bounded twice: an upload has so many parts on their way, and all uploads of a store so many
together. Who writes more waits.
"""

import io
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from typing import TYPE_CHECKING, Any

from tracking.artifact_paths import ArtifactPath
from tracking.artifacts import Upload
from tracking.encryption import Encryption
from tracking.manifest import FileDigest
from tracking.s3_client import PART_BYTES, translated

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

_LATE_PART_BYTES = 2 * PART_BYTES
_LATE_PARTS_FROM = 5_000


class Joined(io.RawIOBase):
    """Chunks as one file to read: a part is sent from where its chunks lie, and never copied together."""

    def __init__(self, chunks: Sequence[bytes]) -> None:
        self._chunks = chunks
        self._size = sum(len(chunk) for chunk in chunks)
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = start + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        begin = 0
        for chunk in self._chunks:
            if begin <= self._position < begin + len(chunk):
                found = memoryview(chunk)[self._position - begin :][: len(buffer)]
                buffer[: len(found)] = found
                self._position += len(found)
                return len(found)
            begin += len(chunk)
        return 0


class PartSenders:
    """Threads that send parts, *parts_max* of them and no more parts in memory than that."""

    def __init__(self, parts_max: int) -> None:
        self._slots = threading.BoundedSemaphore(parts_max)
        self._threads = ThreadPoolExecutor(parts_max, thread_name_prefix="s3-part")

    def send(self, call: "Callable[[], CompletedPartTypeDef]") -> "Future[CompletedPartTypeDef]":
        """Have *call* done; waits until there is room for it."""
        self._slots.acquire()
        try:
            future = self._threads.submit(call)
        except RuntimeError:  # The program ends.
            self._slots.release()
            raise
        future.add_done_callback(lambda _: self._slots.release())
        return future


class Target:
    """Where one upload goes, and what it does there."""

    def __init__(self, client: "S3Client", bucket: str, key: str, encryption: Encryption) -> None:
        self._client = client
        self._bucket = bucket
        self._key = key
        self._encryption = encryption

    def put(self, content: bytes) -> None:
        with translated():
            self._client.put_object(Bucket=self._bucket, Key=self._key, Body=content, **self._encryption.arguments)  # type: ignore[arg-type]  # the stubs want each argument named

    def begin(self) -> str:
        with translated():
            begun = self._client.create_multipart_upload(
                Bucket=self._bucket,
                Key=self._key,
                **self._encryption.arguments,  # type: ignore[arg-type]  # the stubs want each argument named
            )
        return begun["UploadId"]

    def send_part(self, upload_id: str, number: int, chunks: Sequence[bytes]) -> "CompletedPartTypeDef":
        with translated():
            answer = self._client.upload_part(
                Bucket=self._bucket,
                Key=self._key,
                UploadId=upload_id,
                PartNumber=number,
                Body=Joined(chunks),  # type: ignore[arg-type]  # the stubs' IO is no class that a file can be made of
            )
        return {"ETag": answer["ETag"], "PartNumber": number}

    def complete(self, upload_id: str, parts: "list[CompletedPartTypeDef]") -> None:
        with translated():
            self._client.complete_multipart_upload(
                Bucket=self._bucket, Key=self._key, UploadId=upload_id, MultipartUpload={"Parts": parts}
            )


class S3Upload(Upload):
    """Collects parts; a file of less than one part is sent by `publish` itself."""

    def __init__(
        self,
        path: ArtifactPath,
        target: Target,
        senders: PartSenders,
        *,
        parts_max: int,
        abort: Callable[[str], None],
        closed: Callable[[], None],
    ) -> None:
        super().__init__(path)
        self._target = target
        self._senders = senders
        self._parts_max = parts_max
        self._abort = abort
        self._closed: Callable[[], None] | None = closed
        self._upload_id: str | None = None
        self._chunks: list[bytes] = []
        self._waiting_bytes = 0
        self._sending: set[Future[CompletedPartTypeDef]] = set()
        self._sent: list[CompletedPartTypeDef] = []
        self._parts = 0

    def _append(self, chunk: bytes) -> None:
        self._chunks.append(chunk)
        self._waiting_bytes += len(chunk)
        if self._waiting_bytes >= (PART_BYTES if self._parts < _LATE_PARTS_FROM else _LATE_PART_BYTES):
            self._send_part()

    def _send_part(self) -> None:
        self._collect(leaving=self._parts_max - 1)
        if self._upload_id is None:
            self._upload_id = self._target.begin()
        self._parts += 1
        self._sending.add(
            self._senders.send(partial(self._target.send_part, self._upload_id, self._parts, self._chunks))
        )
        self._chunks, self._waiting_bytes = [], 0

    def _collect(self, *, leaving: int) -> None:
        """Wait until at most *leaving* parts are on their way; one that failed raises here."""
        while len(self._sending) > leaving:
            done, self._sending = wait(self._sending, return_when="FIRST_COMPLETED")
            self._sent += [part.result() for part in done]

    def finish(self) -> FileDigest:
        if self._upload_id is not None:
            if self._chunks:
                self._send_part()
            self._collect(leaving=0)
        return self.digest

    def publish(self) -> None:
        if self._upload_id is None:
            self._target.put(b"".join(self._chunks))
        else:
            self._target.complete(self._upload_id, sorted(self._sent, key=lambda part: part["PartNumber"]))
        self._upload_id = None

    def close(self) -> None:
        if self._closed is None:
            return
        closed, self._closed = self._closed, None
        self._chunks = []
        # A part that arrives after the abort would stay there, unseen and paid for.
        wait(self._sending)
        if self._upload_id is not None:
            self._abort(self._upload_id)
        closed()
