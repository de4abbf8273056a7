"""The registry as MLflow's client sends and reads it (mlflow/protos/model_registry.proto, by its JSON form).

A version is a string there and a number with us. Fields that we don't know are ignored, because clients grow.
"""

import msgspec

from registry.entities import ModelVersion, RegisteredModel


class Tag(msgspec.Struct):
    key: str
    value: str = ""


def tags_of(tags: list[Tag]) -> dict[str, str]:
    """By key; of two with the same key the last counts, as with MLflow."""
    return {tag.key: tag.value for tag in tags}


class Empty(msgspec.Struct):
    """What MLflow answers where there is nothing to say: ``{}``."""


# --- registered models


class CreateRegisteredModel(msgspec.Struct):
    name: str
    tags: list[Tag] = []
    description: str | None = None


class UpdateRegisteredModel(msgspec.Struct):
    name: str
    description: str | None = None


class RenameRegisteredModel(msgspec.Struct):
    name: str
    new_name: str


class DeleteRegisteredModel(msgspec.Struct):
    name: str


class SetRegisteredModelTag(msgspec.Struct):
    name: str
    key: str
    value: str = ""


class DeleteRegisteredModelTag(msgspec.Struct):
    name: str
    key: str


class GetLatestVersions(msgspec.Struct):
    name: str
    stages: list[str] = []


class SetAlias(msgspec.Struct):
    name: str
    alias: str
    version: str
    reason: str | None = None
    """Ours: what the history says of why."""
    override: str | None = None
    """Ours: why gates that aren't met are passed by, for who may."""
    expected_version: str | None = None
    """Ours: what the alias must mean now, or nothing is changed; the empty text is for one that isn't there."""


class DeleteAlias(msgspec.Struct):
    name: str
    alias: str
    expected_version: str | None = None
    """Ours, as above."""


# --- model versions


class CreateModelVersion(msgspec.Struct):
    name: str
    source: str
    run_id: str | None = None
    tags: list[Tag] = []
    run_link: str | None = None
    description: str | None = None
    model_id: str | None = None


class UpdateModelVersion(msgspec.Struct):
    name: str
    version: str
    description: str | None = None


class TransitionModelVersionStage(msgspec.Struct):
    name: str
    version: str
    stage: str
    archive_existing_versions: bool = False


class DeleteModelVersion(msgspec.Struct):
    name: str
    version: str


class SetModelVersionTag(msgspec.Struct):
    name: str
    version: str
    key: str
    value: str = ""


class DeleteModelVersionTag(msgspec.Struct):
    name: str
    version: str
    key: str


# --- answers


class Alias(msgspec.Struct):
    alias: str
    version: str


class ModelVersionWire(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A field without a value is left out: protobuf's clients tell "not set" from empty."""

    name: str
    version: str
    creation_timestamp: int
    last_updated_timestamp: int
    user_id: str | None = None
    current_stage: str
    description: str | None = None
    source: str
    run_id: str | None = None
    status: str
    status_message: str | None = None
    tags: list[Tag] = []
    run_link: str | None = None
    aliases: list[str] = []
    model_id: str | None = None


class RegisteredModelWire(msgspec.Struct, kw_only=True, omit_defaults=True):
    name: str
    creation_timestamp: int
    last_updated_timestamp: int
    description: str | None = None
    latest_versions: list[ModelVersionWire] = []
    tags: list[Tag] = []
    aliases: list[Alias] = []


class RegisteredModelAnswer(msgspec.Struct):
    registered_model: RegisteredModelWire


class RegisteredModelsAnswer(msgspec.Struct, omit_defaults=True):
    registered_models: list[RegisteredModelWire] = []
    next_page_token: str | None = None


class ModelVersionAnswer(msgspec.Struct):
    model_version: ModelVersionWire


class ModelVersionsAnswer(msgspec.Struct, omit_defaults=True):
    model_versions: list[ModelVersionWire] = []
    next_page_token: str | None = None


class DownloadUriAnswer(msgspec.Struct):
    artifact_uri: str


def version_on_wire(version: ModelVersion) -> ModelVersionWire:
    return ModelVersionWire(
        name=version.name,
        version=str(version.version),
        creation_timestamp=version.created_ms,
        last_updated_timestamp=version.updated_ms,
        user_id=version.user_id,
        current_stage=version.stage,
        description=version.description,
        source=version.source,
        run_id=version.run_id,
        status=version.status,
        status_message=version.status_message,
        tags=_tags_on_wire(version.tags),
        run_link=version.run_link,
        aliases=list(version.aliases),
        model_id=version.model_id,
    )


def model_on_wire(model: RegisteredModel) -> RegisteredModelWire:
    return RegisteredModelWire(
        name=model.name,
        creation_timestamp=model.created_ms,
        last_updated_timestamp=model.updated_ms,
        description=model.description,
        latest_versions=[version_on_wire(version) for version in model.latest_versions],
        tags=_tags_on_wire(model.tags),
        aliases=[Alias(alias, str(version)) for alias, version in model.aliases.items()],
    )


def _tags_on_wire(tags: dict[str, str]) -> list[Tag]:
    return [Tag(key, value) for key, value in tags.items()]
