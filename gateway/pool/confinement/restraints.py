"""What every model host of a run is held to, by the settings and by what this machine keeps secret."""

from collections.abc import Mapping
from pathlib import Path

from sqlalchemy.engine import make_url

from gateway.pool.machine import memory_for_models
from gateway.pool.messages import Restraints
from gateway.settings import Settings

# Where programs keep what lets them in elsewhere: below the home of whoever runs us, and of the machine itself.
_SECRETS_AT_HOME = (
    ".aws",
    ".azure",
    ".config/gcloud",
    ".databrickscfg",
    ".docker",
    ".git-credentials",
    ".gnupg",
    ".kube",
    ".mlflow",
    ".netrc",
    ".pgpass",
    ".ssh",
)
_SECRETS_OF_THE_MACHINE = ("/etc/shadow", "/etc/gshadow", "/etc/ssl/private", "/etc/kubernetes", "/run/secrets")
# Variables whose values are paths of such files.
_SECRETS_BY_VARIABLE = (
    "AWS_CONFIG_FILE",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "KUBECONFIG",
    "PGPASSFILE",
)
# Disks and memory by other names. What of it a host needs it is given by name.
_DEVICES = "/dev"


def restraints_of(settings: Settings, run_dir: Path, environment: Mapping[str, str]) -> Restraints:
    """As *settings* say, for hosts that live in *run_dir*."""
    return Restraints(
        confinement=settings.host_confinement,
        hidden=tuple(sorted({str(path.resolve()) for path in _hidden(settings, run_dir, environment)})),
        memory_bytes_max=settings.host_memory_bytes_max or memory_for_models(settings.memory_bytes_max),
        threads=settings.host_threads,
    )


def _hidden(settings: Settings, run_dir: Path, environment: Mapping[str, str]) -> list[Path]:
    home = Path(environment.get("HOME", "/nonexistent"))
    return [
        settings.data_dir,
        run_dir,
        *_database_files(settings),
        *([] if "://" in settings.artifacts else [Path(settings.artifacts)]),
        *(home / name for name in _SECRETS_AT_HOME),
        *map(Path, _SECRETS_OF_THE_MACHINE),
        *(Path(environment[name]) for name in _SECRETS_BY_VARIABLE if environment.get(name)),
        Path(_DEVICES),
    ]


def _database_files(settings: Settings) -> list[Path]:
    url = make_url(settings.database)
    if url.get_backend_name() != "sqlite" or not url.database:
        return []
    return [Path(url.database + suffix) for suffix in ("", "-wal", "-shm", "-journal")]
