"""An endpoint to count for, and one to compare."""

import pytest

from registry import aliases, endpoints, models, versions
from registry.entities import CHALLENGER, CHAMPION
from registry.sources import Claim, SourcePolicy
from tracking.folder_artifacts import FolderArtifactStore


@pytest.fixture
def endpoint_id(database, tmp_path) -> str:
    """The id of an endpoint whose champion is version 1."""
    policy = SourcePolicy(locate=FolderArtifactStore(tmp_path).locate, prefixes=("s3://models",))
    with database.writing() as session:
        models.create_model(session, "iris", now_ms=1)
        claim = Claim(source="s3://models/iris")
        version = versions.create_version(session, "iris", claim, policy=policy, now_ms=1).version
        aliases.set_alias(session, "iris", CHAMPION, version, author="ann", now_ms=1)
        return endpoints.get_endpoint(session, "iris").id


@pytest.fixture
def two_arms(database, endpoint_id, tmp_path) -> int:
    """The period in which the endpoint's champion and its challenger, version 2, have half of the traffic each."""
    policy = SourcePolicy(locate=FolderArtifactStore(tmp_path).locate, prefixes=("s3://models",))
    with database.writing() as session:
        version = versions.create_version(
            session, "iris", Claim(source="s3://models/iris"), policy=policy, now_ms=1
        ).version
        aliases.set_alias(session, "iris", CHALLENGER, version, author="ann", now_ms=1)
        even = {CHAMPION: 5_000, CHALLENGER: 5_000}
        return endpoints.change_split(session, "iris", even, author="ann", now_ms=1).period
