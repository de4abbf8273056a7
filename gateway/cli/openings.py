"""What an installation leaves open, as its settings and its machine have it: for `titlebout doctor` to say."""

import os
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from gateway.access.gatekeeper import read_networks
from gateway.access.openness import is_loopback
from gateway.pool.confinement import landlock, seccomp
from gateway.settings import Confinement, Settings
from loaders.code_policy import CodePolicy
from tracking.database import database_url
from tracking.encryption import S3Encryption
from tracking.s3_client import S3Settings

# What libpq takes to mean that nothing goes over the wire in the clear; its default only prefers that.
_ENCRYPTED = {"require", "verify-ca", "verify-full"}
# Landlock's version from which a model can't signal other processes.
_ABI_OF_SIGNALS = 6


class Opening(msgspec.Struct, frozen=True):
    """Who might come in where, and what closes it."""

    name: str
    what: str
    do: str


def find_openings(
    settings: Settings, environment: Mapping[str, str], kept_from: Callable[[], list[str]] | None = None
) -> Iterator[Opening]:
    """All that is more open than it need be; nothing, on a laptop that was told nothing.

    *kept_from* says what this machine's kernel can't keep a model's process from.
    """
    yield from _at_the_door(settings)
    yield from _to_models(settings, kept_from or not_kept_from)
    yield from _to_the_data(settings, environment)


def not_kept_from() -> list[str]:
    """What this kernel can't keep a model's process from, in words; tried in a child, since there is no way back."""
    abi = landlock.find_abi()
    missing = [] if abi else ["files that aren't its own"]
    if not _in_a_child(seccomp.enforce):
        missing.append("the network")
    if abi and abi < _ABI_OF_SIGNALS:
        missing.append("ending other processes")
    return missing


def _at_the_door(settings: Settings) -> Iterator[Opening]:
    if settings.default_grants.strip():
        yield Opening(
            "users",
            f"whoever {_who_vouches(settings)} may do this, though nobody has added them: {settings.default_grants}",
            "leave TITLEBOUT_DEFAULT_GRANTS empty and add users by `titlebout user add`",
        )
    if settings.user_header and any(network.prefixlen == 0 for network in read_networks(settings.trusted_proxies)):
        yield Opening(
            "users",
            f"anybody is whoever they say they are in {settings.user_header}: every address is a trusted proxy",
            "list the proxy's own addresses in TITLEBOUT_TRUSTED_PROXIES",
        )
    if "*" in settings.allowed_hosts.split(","):
        yield Opening(
            "hosts",
            "any web page can have its visitors' browsers ask this server in the name of its own",
            "list the names by which this server is reached in TITLEBOUT_ALLOWED_HOSTS",
        )
    if settings.webhook_allow_private:
        yield Opening(
            "webhooks",
            "whoever may make a webhook can have this server call private addresses",
            "leave TITLEBOUT_WEBHOOK_ALLOW_PRIVATE out once receivers are public, or bound what the server may reach",
        )


def _who_vouches(settings: Settings) -> str:
    return "signs in by the issuer" if settings.oidc_issuer else "the proxy lets through"


def _to_models(settings: Settings, kept_from: Callable[[], list[str]]) -> Iterator[Opening]:
    if settings.code_policy is CodePolicy.ALLOW:
        yield Opening(
            "code",
            "a model's code runs even if its files are not those that were registered",
            "set TITLEBOUT_CODE_POLICY to registered, signed or deny",
        )
    if settings.host_confinement is Confinement.OFF:
        yield Opening(
            "models",
            "a model's code may do all that this server's user may: the network, the database, credentials in files",
            "set TITLEBOUT_HOST_CONFINEMENT to auto or required",
        )
    elif missing := kept_from():
        yield Opening(
            "models",
            f"this kernel, or the container's filter, can't keep a model's process from {' or '.join(missing)}",
            "take a newer kernel or runtime; TITLEBOUT_HOST_CONFINEMENT=required loads nothing where it can't",
        )


def _to_the_data(settings: Settings, environment: Mapping[str, str]) -> Iterator[Opening]:
    if _others_may_read(settings.data_dir):
        yield Opening(
            "data", f"every user of this machine may read {settings.data_dir}", f"chmod 700 {settings.data_dir}"
        )
    url = database_url(settings.database)
    sslmode = url.query.get("sslmode") or environment.get("PGSSLMODE")
    if url.get_backend_name() == "postgresql" and not _is_here(url.host) and sslmode not in _ENCRYPTED:
        yield Opening(
            "database",
            f"what is said to {url.host} may be in the clear, and said to somebody else",
            "add ?sslmode=verify-full to TITLEBOUT_DATABASE_URL (require encrypts, and doesn't check who answers)",
        )
    if settings.artifacts.startswith("s3://"):
        yield from _to_the_bucket(settings, S3Settings.from_environment(environment))


def _to_the_bucket(settings: Settings, s3: S3Settings) -> Iterator[Opening]:
    endpoint = urlsplit(s3.endpoint_url or "https://")
    if endpoint.scheme == "http" and not _is_here(endpoint.hostname):
        yield Opening("bucket", f"artifacts go to {endpoint.hostname} in the clear", "give S3 an address with https")
    if not s3.verify_tls:
        yield Opening("bucket", "nobody checks that it is S3 that answers", "leave MLFLOW_S3_IGNORE_TLS out")
    if settings.s3_encryption is S3Encryption.NONE:
        yield Opening(
            "bucket", "no encryption at rest is asked for", "set TITLEBOUT_S3_ENCRYPTION to AES256 or aws:kms"
        )


def _is_here(host: str | None) -> bool:
    """Whether *host* is this machine; a path is a socket in it, and none is libpq's default one."""
    return not host or host.startswith("/") or is_loopback(host)


def _others_may_read(folder: Path) -> bool:
    try:
        mode = folder.stat().st_mode
        # However open it is itself, a closed folder above it closes it.
        ways = [parent.stat().st_mode for parent in folder.parents]
    except OSError:
        return False
    return bool(mode & stat.S_IROTH) and all(way & stat.S_IXOTH for way in ways)


def _in_a_child(done: Callable[[], None]) -> bool:
    """Whether *done* works; it is done in a child, which ends."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            done()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
