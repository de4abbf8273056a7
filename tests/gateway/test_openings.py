"""What `titlebout doctor` says is open: nothing on a laptop, each thing once where it is so."""

import socket
import tempfile
from pathlib import Path

import pytest

from gateway.cli.openings import find_openings, not_kept_from
from gateway.settings import Confinement, Settings
from loaders.code_policy import CodePolicy
from tracking.encryption import S3Encryption

S3 = {"artifact_root": "s3://bucket/prefix"}
REMOTE = "postgresql://me:secret@db.example/titlebout"


def names_of(settings, environment=None, missing=()):
    openings = list(find_openings(settings, environment or {}, lambda: list(missing)))
    assert "secret" not in str(openings)
    return [opening.name for opening in openings]


@pytest.fixture
def data(tmp_path):
    tmp_path.chmod(0o700)
    return str(tmp_path)


@pytest.mark.parametrize(
    ("settings", "environment", "found"),
    [
        pytest.param({}, {}, [], id="a laptop"),
        pytest.param({"default_grants": "viewer"}, {}, ["users"], id="users whom nobody added"),
        pytest.param({"trusted_proxies": "0.0.0.0/0"}, {}, [], id="any proxy, which names nobody"),
        pytest.param({"trusted_proxies": "10.0.0.1,::/0", "user_header": "X-User"}, {}, ["users"], id="any proxy"),
        pytest.param({"trusted_proxies": "10.0.0.0/8", "user_header": "X-User"}, {}, [], id="a proxy"),
        pytest.param({"allowed_hosts": "a.example,*"}, {}, ["hosts"], id="by any name"),
        pytest.param({"webhook_allow_private": True}, {}, ["webhooks"], id="webhooks reach private addresses"),
        pytest.param({"code_policy": CodePolicy.ALLOW}, {}, ["code"], id="any code loads"),
        pytest.param({"host_confinement": Confinement.OFF}, {}, ["models"], id="models may do all"),
        pytest.param({"database_url": REMOTE}, {}, ["database"], id="a database in the clear"),
        pytest.param({"database_url": REMOTE + "?sslmode=prefer"}, {}, ["database"], id="perhaps in the clear"),
        pytest.param({"database_url": REMOTE + "?sslmode=verify-full"}, {}, [], id="a database with TLS"),
        pytest.param({"database_url": REMOTE}, {"PGSSLMODE": "require"}, [], id="TLS by libpq's own variable"),
        pytest.param({"database_url": "postgresql://me:secret@127.0.0.1/t"}, {}, [], id="a database on this machine"),
        pytest.param({"database_url": "postgresql:///t?host=/run/postgresql"}, {}, [], id="a socket"),
        pytest.param(S3, {}, [], id="a bucket"),
        pytest.param(S3, {"AWS_ENDPOINT_URL_S3": "http://s3.example"}, ["bucket"], id="a bucket in the clear"),
        pytest.param(S3, {"AWS_ENDPOINT_URL_S3": "http://localhost:9000"}, [], id="a bucket on this machine"),
        pytest.param(S3, {"MLFLOW_S3_IGNORE_TLS": "true"}, ["bucket"], id="whoever says it is the bucket"),
        pytest.param({**S3, "s3_encryption": S3Encryption.NONE}, {}, ["bucket"], id="a bucket without encryption"),
    ],
)
def test_what_is_open_is_named(data, settings, environment, found):
    assert names_of(Settings(data=data, **settings), environment) == found


def test_what_the_kernel_cannot_do_is_named_unless_nothing_is_asked_of_it(data):
    assert names_of(Settings(data=data), missing=["the network"]) == ["models"]
    assert names_of(Settings(data=data, host_confinement=Confinement.OFF), missing=["the network"]) == ["models"]


def test_a_data_folder_that_others_may_read_is_named_unless_one_above_it_is_closed():
    # pytest's own temporary folder is closed.
    with tempfile.TemporaryDirectory() as above:
        folder = Path(above, "data")
        folder.mkdir()
        folder.chmod(0o755)
        assert names_of(Settings(data=str(folder))) == []
        Path(above).chmod(0o755)
        assert names_of(Settings(data=str(folder))) == ["data"]


def test_what_this_kernel_can_do_is_tried_and_leaves_this_process_free():
    assert set(not_kept_from()) <= {"files that aren't its own", "the network", "ending other processes"}
    socket.socket().close()
