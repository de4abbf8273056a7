"""Where a version may come from, and which folder its source means: stricter than MLflow's server.

A source is followed to its folder once, when the version is made, and never again: what `models:/m-…` or `runs:/…`
would mean later doesn't matter to a version that exists.
"""

from collections.abc import Callable

import msgspec
from sqlalchemy.orm import Session

from registry import models
from registry.entities import ModelVersion
from registry.errors import PromptAsSource, RegisteredModelNotFound, SourceNotAllowed, SourceNotOwned
from registry.granted import ensure_may_read
from registry.manifests import MLMODEL
from registry.uri import SCHEME, resolve
from tracking import artifact_records, logged_models, runs
from tracking.access.caller import caller_of
from tracking.artifact_paths import ArtifactPath
from tracking.artifact_uris import (
    ArtifactUri,
    FileUri,
    InvalidArtifactUri,
    ModelUri,
    ProxiedUri,
    RunUri,
    S3Uri,
    parse_artifact_uri,
)
from tracking.entities import LoggedModel
from tracking.errors import NotFound
from tracking.names import check_text

# mlflow/prompt/constants.py: what clients send as the source of a prompt, which has no files.
PROMPT_SOURCES = frozenset({"dummy-source", "prompt-template"})

_SOURCE_LENGTH_MAX = 4_000


class SourcePolicy(msgspec.Struct, frozen=True):
    """Which URIs outside of runs and logged models versions may be made from."""

    locate: Callable[[ArtifactUri], ArtifactPath | None]
    """The artifact store's own: where a URI lies under its root, None if it lies elsewhere."""
    prefixes: tuple[str, ...] = ()
    """Further URIs; what lies below one of them is allowed too."""


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """What a request says that a version is made from."""

    source: str
    run_id: str | None = None
    model_id: str | None = None


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """What a claim came to."""

    source: str
    artifact_uri: str
    run_id: str | None
    model_id: str | None
    copied: ModelVersion | None = None
    """The version that was copied, if one was."""
    proxied: bool = False
    """Whether its files came through us, so that all of their digests are known."""


def trace(session: Session, claim: Claim, policy: SourcePolicy) -> Origin:
    """Follow the source of *claim* to its folder.

    Raises:
        SourceNotOwned: if the claim's run or logged model is not whose folder it lies in.
        SourceNotAllowed: if it lies nowhere that versions are made from.
    """
    check_text(claim.source, "source", _SOURCE_LENGTH_MAX)
    match _parsed(claim.source):
        case RunUri() as uri:
            return _from_run(session, uri, claim, policy)
        case ModelUri(rest) if "/" in rest or "@" in rest:
            return _from_version(session, claim)
        case ModelUri(model_id):
            return _from_logged_model(session, model_id, claim, policy)
        case ProxiedUri() as uri:
            _ensure_owned(session, uri, claim, policy)
            return _from_folder(session, uri, claim, policy)
        case uri if policy.locate(uri) is None:
            _ensure_seen(session, claim)
            return _from_folder(session, uri, claim, policy)
        case uri:
            # Where a direct mode's client has put its files. What was put there by hand is nobody's, and so for those
            # to register from whom nothing is hidden.
            if claim.run_id or claim.model_id or not _sees_all(session):
                _ensure_owned(session, uri, claim, policy)
            return _from_folder(session, uri, claim, policy)


def _ensure_seen(session: Session, claim: Claim) -> None:
    """Let a version that lies elsewhere name no logged model that isn't here, nor what is hidden from its maker."""
    if claim.model_id:
        _logged_model(session, claim)
    if claim.run_id and not _sees_all(session):
        _run_folder(session, claim)


def _sees_all(session: Session) -> bool:
    return caller_of(session).reading.experiments.all


def _from_run(session: Session, uri: RunUri, claim: Claim, policy: SourcePolicy) -> Origin:
    if claim.model_id:
        raise SourceNotOwned(claim.source, "model_id")
    if uri.run_id != claim.run_id:
        raise SourceNotOwned(claim.source, "run_id")
    folder = _below(_run_folder(session, claim), uri.path)
    if not _has_mlmodel(session, folder, policy):
        # Where the client logs models today: beside the run's own folder, under the name that was its path before.
        logged = _find_logged_model(session, uri)
        if logged is not None:
            return _from_folder(
                session,
                parse_artifact_uri(logged.artifact_uri),
                msgspec.structs.replace(claim, model_id=logged.model_id),
                policy,
            )
    return _from_folder(session, folder, claim, policy)


def _has_mlmodel(session: Session, folder: ArtifactUri, policy: SourcePolicy) -> bool:
    path = policy.locate(folder)
    return path is not None and artifact_records.find_digest(session, path / MLMODEL) is not None


def _find_logged_model(session: Session, uri: RunUri) -> LoggedModel | None:
    """The newest model that the run logged under the name that *uri* has for a path."""
    if uri.path is None or "'" in str(uri.path):  # No logged model's name has a quote in it.
        return None
    found = logged_models.search_logged_models(
        session,
        [runs.get_run_info(session, uri.run_id).experiment_id],
        filter_text=f"name = '{uri.path}' AND source_run_id = '{uri.run_id}'",
        max_results=1,
    )
    return next(iter(found.items), None)


def _from_logged_model(session: Session, model_id: str, claim: Claim, policy: SourcePolicy) -> Origin:
    if model_id != claim.model_id:
        raise SourceNotOwned(claim.source, "model_id")
    return _from_folder(session, _logged_model_folder(session, claim), claim, policy)


def _from_version(session: Session, claim: Claim) -> Origin:
    copied = resolve(session, claim.source)
    # Nobody gets at files by copying what they may change and not see.
    ensure_may_read(session, copied.name, RegisteredModelNotFound(copied.name))
    if models.says_prompt(copied.tags) or models.is_prompt(session, copied.name):
        raise PromptAsSource(claim.source)
    if claim.run_id and claim.run_id != copied.run_id:
        raise SourceNotOwned(claim.source, "run_id")
    if claim.model_id and claim.model_id != copied.model_id:
        raise SourceNotOwned(claim.source, "model_id")
    return Origin(
        # By number, because an alias will mean another version tomorrow.
        source=f"{SCHEME}{copied.name}/{copied.version}",
        artifact_uri=copied.artifact_uri,
        run_id=copied.run_id,
        model_id=copied.model_id,
        copied=copied,
    )


def _from_folder(session: Session, folder: ArtifactUri, claim: Claim, policy: SourcePolicy) -> Origin:
    return Origin(
        source=claim.source,
        artifact_uri=_admitted(folder, claim, policy),
        run_id=(_run_of(session, claim, claim.model_id) if claim.model_id else claim.run_id) or None,
        model_id=claim.model_id or None,
        proxied=isinstance(folder, ProxiedUri),
    )


def _run_of(session: Session, claim: Claim, model_id: str) -> str | None:
    """The run that made the claim's logged model; another one only if it names that among what it made.

    Gates go by what the run measured, so nobody may claim the better run of somebody else.
    """
    made_by = logged_models.source_run_of(session, model_id)
    if not claim.run_id or claim.run_id == made_by:
        return made_by
    try:
        outputs = runs.get_run(session, claim.run_id).model_outputs
    except NotFound as error:
        raise SourceNotOwned(claim.source, "run_id") from error
    if model_id not in {output.model_id for output in outputs}:
        raise SourceNotOwned(claim.source, "run_id")
    return claim.run_id


def _ensure_owned(session: Session, uri: ArtifactUri, claim: Claim, policy: SourcePolicy) -> None:
    if claim.model_id:
        if not _lies_in(uri, _logged_model_folder(session, claim), policy):
            raise SourceNotOwned(claim.source, "model_id")
    elif not claim.run_id or not _lies_in(uri, _run_folder(session, claim), policy):
        raise SourceNotOwned(claim.source, "run_id")


def _lies_in(uri: ArtifactUri, folder: ArtifactUri, policy: SourcePolicy) -> bool:
    # By their places in the store: the one may be written as its own URI, and the other as the proxy's.
    path, root = policy.locate(uri), policy.locate(folder)
    return path is not None and root is not None and path.is_within(root)


def _run_folder(session: Session, claim: Claim) -> ArtifactUri:
    try:
        return parse_artifact_uri(runs.get_run_info(session, claim.run_id or "").artifact_uri)
    except NotFound as error:
        raise SourceNotOwned(claim.source, "run_id") from error


def _logged_model_folder(session: Session, claim: Claim) -> ArtifactUri:
    return parse_artifact_uri(_logged_model(session, claim).artifact_uri)


def _logged_model(session: Session, claim: Claim) -> LoggedModel:
    try:
        return logged_models.get_logged_model(session, claim.model_id or "")
    except NotFound as error:
        raise SourceNotOwned(claim.source, "model_id") from error


def _admitted(folder: ArtifactUri, claim: Claim, policy: SourcePolicy) -> str:
    """The URI under which *folder* is kept: our own for what lies in the store, so that it can be frozen there.

    Asked of every folder, however it was found: an experiment's artifact location is its maker's choice.
    """
    path = policy.locate(folder)
    if path is not None:
        return f"mlflow-artifacts:/{path}"
    if any(_is_within(folder, _parsed(prefix)) for prefix in policy.prefixes):
        return _text(folder)
    raise SourceNotAllowed(claim.source)


def _parsed(text: str) -> ArtifactUri:
    try:
        return parse_artifact_uri(text)
    except InvalidArtifactUri as error:
        raise SourceNotAllowed(text) from error


def _is_within(uri: ArtifactUri, folder: ArtifactUri) -> bool:
    match uri, folder:
        case ProxiedUri(path), ProxiedUri(root):
            return path is not None and root is not None and path.is_within(root)
        case S3Uri(bucket, key), S3Uri(of_bucket, root):
            return bucket == of_bucket and key is not None and (root is None or key.is_within(root))
        case FileUri(path), FileUri(root):
            return path.is_relative_to(root)
        case _:
            return False


def _below(folder: ArtifactUri, path: ArtifactPath | None) -> ArtifactUri:
    if path is None:
        return folder
    match folder:
        case ProxiedUri(root):
            return ProxiedUri(path if root is None else root / path)
        case S3Uri(bucket, root):
            return S3Uri(bucket, path if root is None else root / path)
        case FileUri(root):
            return FileUri(root.joinpath(*path.segments))
        case _:
            return folder


def _text(folder: ArtifactUri) -> str:
    match folder:
        case S3Uri(bucket, key):
            return f"s3://{bucket}/{key}"
        case FileUri(path):
            return path.as_uri()
        case _:
            raise TypeError(f"{type(folder).__name__} is no kind of folder that prefixes have")
