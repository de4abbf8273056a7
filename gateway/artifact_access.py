"""Where artifacts are, as the settings say: the store, and the root under which new experiments put theirs."""

from gateway.settings import ArtifactMode, Settings
from tracking.artifact_stores import open_store
from tracking.artifacts import ArtifactStore
from tracking.experiments import DEFAULT_ARTIFACT_ROOT


def open_artifact_store(settings: Settings) -> ArtifactStore:
    """The store that *settings* name. Touches nothing yet.

    Raises:
        InvalidParameter: if there can be none.
    """
    return open_store(
        settings.artifacts,
        encryption=settings.encryption,
        clients_endpoint_url=settings.presigned_endpoint_url or None,
    )


def root_of_new_artifacts(settings: Settings, store: ArtifactStore) -> str:
    """What the artifact locations of new experiments begin with; those that are there already stay where they are."""
    match settings.artifact_mode:
        case ArtifactMode.PROXIED:
            return DEFAULT_ARTIFACT_ROOT
        case ArtifactMode.DIRECT:
            return store.uri
