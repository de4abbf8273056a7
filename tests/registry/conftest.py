"""A model to register versions of, and a policy under which sources are quickly named."""

from pathlib import Path

import pytest

from registry import models, versions
from registry.sources import Claim, SourcePolicy
from tracking.database import Database
from tracking.folder_artifacts import FolderArtifactStore

NOW_MS = 1_700_000_000_000
SOURCE = "s3://shared-models/iris"


@pytest.fixture
def policy(tmp_path: Path) -> SourcePolicy:
    return SourcePolicy(locate=FolderArtifactStore(tmp_path / "artifacts").locate, prefixes=("s3://shared-models",))


@pytest.fixture
def iris(database: Database) -> str:
    with database.writing() as session:
        return models.create_model(session, "iris", now_ms=NOW_MS).name


@pytest.fixture
def add_version(database: Database, policy: SourcePolicy):
    """Registers one more version of a model, made from a place that the policy allows."""

    def add(name: str = "iris", *, source: str = SOURCE, now_ms: int = NOW_MS, **given):
        with database.writing() as session:
            return versions.create_version(session, name, Claim(source=source), policy=policy, now_ms=now_ms, **given)

    return add
