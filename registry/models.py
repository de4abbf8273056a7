"""Registered models: a name, what is said about it, and the numbers its versions draw. Prompts are models too."""

from collections.abc import Mapping, Sequence

from sqlalchemy import bindparam, delete, func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from registry import endpoints, gates, history, manifests
from registry.entities import Action, ModelVersion, RegisteredModel
from registry.errors import NameTaken
from registry.granted import ensure_may_name, in_sight, may_see
from registry.names import (
    canonical_stage,
    check_description,
    check_model_name,
    check_tag,
    check_tag_key,
)
from registry.rows import get_model_row, latest_versions, to_model
from registry.schema import ModelVersionRow, RegisteredModelRow, RegisteredModelTagRow

# mlflow/prompt/constants.py: a registered model with this tag is a prompt, and so is a version.
PROMPT_TAG = "mlflow.prompt.is_prompt"


def create_model(
    session: Session,
    name: str,
    *,
    now_ms: int,
    description: str | None = None,
    tags: Mapping[str, str] | None = None,
) -> RegisteredModel:
    """Take *name* for a new model, without any version.

    Raises:
        NotGranted: if the caller may have no model of that name, taken or not.
        NameTaken: if a model or a prompt has it.
    """
    tags = tags or {}
    check_model_name(name)
    check_description(description)
    for key, value in tags.items():
        check_tag(key, value)
    ensure_may_name(session, name)
    _ensure_free(session, name, wanted_for_prompt=says_prompt(tags))
    row = RegisteredModelRow(name=name, description=description, latest_version=0, created_ms=now_ms, updated_ms=now_ms)
    session.add(row)
    try:
        session.flush()
    except IntegrityError as error:
        # Somebody took the name after it was looked up, and most likely for the same thing.
        raise NameTaken(name, taken_by_prompt=says_prompt(tags), wanted_for_prompt=says_prompt(tags)) from error
    session.add_all(RegisteredModelTagRow(name=name, key=key, value=value) for key, value in tags.items())
    return to_model(session, row)


def get_model(session: Session, name: str) -> RegisteredModel:
    """Model *name*.

    Raises:
        RegisteredModelNotFound: if there is none.
    """
    return to_model(session, get_model_row(session, name))


def find_model(session: Session, name: str) -> RegisteredModel | None:
    """Model *name* exactly as written, however unlikely a name it is, if there is one that the caller may see."""
    row = session.get(RegisteredModelRow, name) if may_see(session, name) else None
    return None if row is None else to_model(session, row)


def list_names(session: Session, limit: int) -> list[str]:
    """The names of all models that the caller may see and that aren't prompts, the first *limit* of them."""
    prompts = select(RegisteredModelTagRow.name).where(
        RegisteredModelTagRow.key == PROMPT_TAG, func.lower(RegisteredModelTagRow.value) == "true"
    )
    row = RegisteredModelRow
    shown = select(row.name).where(row.name.not_in(prompts), *in_sight(session, row.name))
    return list(session.scalars(shown.order_by(row.name).limit(limit)))


def get_latest_versions(session: Session, name: str, stages: Sequence[str] = ()) -> list[ModelVersion]:
    """The newest version in each of *stages*, or in every stage if none is named."""
    get_model_row(session, name)
    wanted = {canonical_stage(stage) for stage in stages}
    return [version for version in latest_versions(session, [name]) if not wanted or version.stage in wanted]


def is_prompt(session: Session, name: str) -> bool:
    session.flush()
    said = session.connection().execute(_PROMPT_TAG_OF, {"name": name}).scalar()
    return said is not None and says_prompt({PROMPT_TAG: said})


_PROMPT_TAG_OF = select(RegisteredModelTagRow.value).where(
    RegisteredModelTagRow.name == bindparam("name"), RegisteredModelTagRow.key == PROMPT_TAG
)


def says_prompt(tags: Mapping[str, str]) -> bool:
    """Whether *tags* are those of a prompt, or of a version of one."""
    return tags.get(PROMPT_TAG, "false").lower() == "true"


def describe_model(session: Session, name: str, description: str | None, *, now_ms: int) -> RegisteredModel:
    check_description(description)
    row = get_model_row(session, name, lock=True)
    row.description = description
    row.updated_ms = now_ms
    return to_model(session, row)


def rename_model(session: Session, name: str, new_name: str, *, author: str, now_ms: int) -> RegisteredModel:
    """Give the model *new_name*; versions, tags and aliases go with it, its endpoint keeps the name it has.

    Raises:
        RegisteredModelNotFound: if there is no model *name*.
        NotGranted: if the caller may change no model *name*, or may have none of the new name, taken or not.
        NameTaken: if another has *new_name*.
        NameInService: if another had it until just now, and is still answered from under it.
        GatesNotMet: if the new name has gates that keep out what an alias means.
    """
    check_model_name(new_name, "new_name")
    get_model_row(session, name, lock=True)
    ensure_may_name(session, new_name)
    if new_name != name:
        prompt = is_prompt(session, name)
        _ensure_free(session, new_name, wanted_for_prompt=prompt, renamed_from=name)
        endpoints.pass_gates(session, name, new_name, now_ms=now_ms)
        try:
            # The rows that refer to the name follow by ON UPDATE CASCADE, so this is one statement and no gap.
            session.execute(
                update(RegisteredModelRow).where(RegisteredModelRow.name == name).values(name=new_name),
                execution_options={"synchronize_session": False},
            )
        except IntegrityError as error:
            raise NameTaken(new_name, taken_by_prompt=prompt, wanted_for_prompt=prompt) from error
        session.expunge_all()  # What the session remembers goes by the old name.
        endpoints.model_was_renamed(session, name, new_name)
        manifests.rename_all(session, name, new_name)
        gates.follow_rename(session, name, new_name, author=author, now_ms=now_ms)
        history.record_rename(session, name, new_name, author=author, now_ms=now_ms)
    row = get_model_row(session, new_name)
    row.updated_ms = now_ms
    session.execute(update(ModelVersionRow).where(ModelVersionRow.name == new_name).values(updated_ms=now_ms))
    return to_model(session, row)


def delete_model(session: Session, name: str, *, author: str, now_ms: int) -> None:
    """Delete the model with all its versions, tags and aliases.

    Raises:
        RegisteredModelNotFound: if there is none.
        Conflict: if a version of it answers requests.
    """
    get_model_row(session, name, lock=True)
    endpoints.ensure_model_deletable(session, name)
    manifests.release_all(session, name)
    session.execute(delete(RegisteredModelRow).where(RegisteredModelRow.name == name))
    session.expunge_all()  # The versions, tags and aliases went by ON DELETE CASCADE.
    endpoints.model_was_deleted(session, name)
    history.record(session, Action.MODEL_DELETED, name, author=author, now_ms=now_ms)


def set_tag(session: Session, name: str, key: str, value: str) -> None:
    check_tag(key, value)
    # The lock makes two first writers of one tag take turns; neither meets the other's row as an error.
    get_model_row(session, name, lock=True)
    session.merge(RegisteredModelTagRow(name=name, key=key, value=value))
    session.flush()


def delete_tag(session: Session, name: str, key: str) -> None:
    """Take the tag away; one that isn't there is no error, as with MLflow."""
    check_tag_key(key)
    get_model_row(session, name, lock=True)
    matching = (RegisteredModelTagRow.name == name) & (RegisteredModelTagRow.key == key)
    session.execute(delete(RegisteredModelTagRow).where(matching))


def _ensure_free(session: Session, name: str, *, wanted_for_prompt: bool, renamed_from: str | None = None) -> None:
    if session.get(RegisteredModelRow, name) is not None:
        raise NameTaken(name, taken_by_prompt=is_prompt(session, name), wanted_for_prompt=wanted_for_prompt)
    endpoints.ensure_name_unserved(session, name, renamed_from=renamed_from)
