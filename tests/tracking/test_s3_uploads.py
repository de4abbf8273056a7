"""What goes over the wire to S3, as a stand-in sees it that says nothing until enough parts have come."""

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest

from tracking.artifact_paths import ArtifactPath
from tracking.artifacts import StoreUnavailable
from tracking.encryption import Encryption, KeyWithoutKms, S3Encryption
from tracking.s3_artifacts import S3ArtifactStore
from tracking.s3_client import PART_BYTES, S3Settings

PATH = ArtifactPath.parse("1/weights")
CHUNK = bytes(1024 * 1024)


class StandIn(ThreadingHTTPServer):
    """Answers what an upload asks. A part is answered only once *together* of them are here at once."""

    daemon_threads = True

    def __init__(self, together: int = 1, failing_part: int = 0) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.gate = threading.Barrier(together)
        self.failing_part = failing_part
        self.headers_sent: dict[str, dict[str, str]] = {}
        self.parts: dict[int, int] = {}
        self.completed: list[int] = []
        self.aborted = 0
        self._lock = threading.Lock()
        self.here = self.here_at_once = 0

    def arrived(self, change: int) -> None:
        with self._lock:
            self.here += change
            self.here_at_once = max(self.here_at_once, self.here)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: StandIn

    def do_POST(self) -> None:
        query = parse_qs(urlsplit(self.path).query, keep_blank_values=True)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        if "uploads" in query:
            self._noted("begin")
            self._answer("<InitiateMultipartUploadResult><UploadId>u1</UploadId></InitiateMultipartUploadResult>")
        else:
            self.server.completed = [int(part.partition("<")[0]) for part in body.split("<PartNumber>")[1:]]
            self._answer("<CompleteMultipartUploadResult><ETag>x</ETag></CompleteMultipartUploadResult>")

    def do_PUT(self) -> None:
        query = parse_qs(urlsplit(self.path).query)
        size = len(self.rfile.read(int(self.headers["Content-Length"])))
        if "partNumber" not in query:
            self._noted("put")
            self._answer("")
            return
        number = int(query["partNumber"][0])
        self.server.arrived(1)
        self.server.gate.wait(20)
        self.server.arrived(-1)
        self.server.parts[number] = size
        self._answer("", status=403 if number == self.server.failing_part else 200)

    def do_DELETE(self) -> None:
        self.server.aborted += 1
        self._answer("", status=204)

    def _noted(self, call: str) -> None:
        self.server.headers_sent[call] = {name.lower(): value for name, value in self.headers.items()}

    def _answer(self, body: str, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", '"e"')
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def stand_in() -> Iterator[Callable[..., StandIn]]:
    running: list[StandIn] = []

    def start(**options: int) -> StandIn:
        server = StandIn(**options)
        running.append(server)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        return server

    yield start
    for server in running:
        server.shutdown()
        server.server_close()


def store_at(server: StandIn, encryption: Encryption | None = None, **settings: int) -> S3ArtifactStore:
    return S3ArtifactStore(
        "bucket",
        None,
        S3Settings(
            endpoint_url=f"http://127.0.0.1:{server.server_port}",
            region="us-east-1",
            access_key_id="x",
            secret_access_key="x",
            attempts_max=1,
            **settings,
        ),
        encryption or Encryption(),
    )


def send(store: S3ArtifactStore, megabytes: int) -> None:
    with store.upload(PATH) as upload:
        for _ in range(megabytes):
            upload.write(CHUNK)
        upload.finish()
        upload.publish()


def test_parts_are_sent_several_at_once_and_no_more_than_that(stand_in):
    server = stand_in(together=3)
    # Six parts: were they sent one by one, the first would wait for the third for ever.
    send(store_at(server, parts_of_upload_max=3), 6 * PART_BYTES // len(CHUNK))
    assert server.here_at_once == 3
    assert server.parts == dict.fromkeys(range(1, 7), PART_BYTES)
    assert server.completed == [1, 2, 3, 4, 5, 6]


def test_all_uploads_together_have_no_more_parts_on_their_way_than_the_process_may(stand_in):
    server = stand_in(together=2)
    store = store_at(server, parts_max=2, parts_of_upload_max=2)
    uploads = [threading.Thread(target=send, args=(store, 4 * PART_BYTES // len(CHUNK))) for _ in range(3)]
    for upload in uploads:
        upload.start()
    for upload in uploads:
        upload.join(30)
    assert server.here_at_once == 2


def test_a_part_that_fails_fails_the_upload_and_drops_it(stand_in):
    server = stand_in(failing_part=2)
    with pytest.raises(StoreUnavailable):
        send(store_at(server), 5 * PART_BYTES // len(CHUNK))
    assert (server.completed, server.aborted) == ([], 1)


def test_the_last_part_is_as_small_as_what_is_left(stand_in):
    server = stand_in()
    send(store_at(server), PART_BYTES // len(CHUNK) + 1)
    assert server.parts == {1: PART_BYTES, 2: len(CHUNK)}


@pytest.mark.parametrize(
    ("encryption", "headers"),
    [
        (Encryption(), {"x-amz-server-side-encryption": "AES256"}),
        (Encryption(S3Encryption.NONE), {}),
        (
            Encryption(S3Encryption.KMS, "alias/models"),
            {
                "x-amz-server-side-encryption": "aws:kms",
                "x-amz-server-side-encryption-aws-kms-key-id": "alias/models",
            },
        ),
    ],
    ids=["by default", "none", "kms"],
)
def test_every_write_asks_for_the_encryption_that_was_set(stand_in, encryption, headers):
    server = stand_in()
    store = store_at(server, encryption)
    send(store, 1)
    send(store, PART_BYTES // len(CHUNK))
    store.signer.begin_parts(PATH, 1, 60)
    signed = store.signer.upload(PATH, 60)
    for call in ("put", "begin"):
        sent = server.headers_sent[call]
        assert {name: sent[name] for name in sent if name.startswith("x-amz-server-side")} == headers
    assert signed.headers == headers
    # Signed, so that nobody can leave them out.
    assert all(name in signed.url for name in headers)


def test_urls_are_signed_for_the_address_that_clients_know(stand_in):
    server = stand_in()
    settings = S3Settings(
        endpoint_url=f"http://127.0.0.1:{server.server_port}",
        region="us-east-1",
        access_key_id="x",
        secret_access_key="x",
    )
    store = S3ArtifactStore("bucket", None, settings, clients_endpoint_url="https://s3.example:8443")
    for url in (
        store.signer.upload(PATH, 60).url,
        store.signer.download(PATH, 60).url,
        store.signer.begin_parts(PATH, 1, 60).parts[0].url,
    ):
        assert url.startswith("https://s3.example:8443/bucket/1/weights?")


def test_a_key_for_an_encryption_that_has_none_is_refused():
    with pytest.raises(KeyWithoutKms):
        Encryption(S3Encryption.AES256, "alias/models")
