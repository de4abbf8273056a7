"""What can be so in the registry and stand in a caller's way."""

from collections.abc import Mapping, Sequence

from tracking.errors import AlreadyExists, Conflict, InvalidParameter, NotFound, PermissionDenied


class RegisteredModelNotFound(NotFound):
    def __init__(self, name: str) -> None:
        super().__init__(f"Registered Model with name={name} not found")
        self.name = name


class ModelVersionNotFound(NotFound):
    def __init__(self, name: str, version: int | str) -> None:
        super().__init__(f"Model Version (name={name}, version={version}) not found")


class AliasNotFound(InvalidParameter):
    """An alias that a model doesn't have: 400 and not 404, because MLflow's client tells the two apart."""

    def __init__(self, alias: str) -> None:
        super().__init__(f"Registered model alias {alias} not found.")


class AliasMeantNothing(InvalidParameter):
    def __init__(self, name: str, alias: str) -> None:
        super().__init__(f"The alias {alias!r} of {name!r} meant no version then, as far back as the history goes.")


class GateNotFound(NotFound):
    def __init__(self, model: str, name: str) -> None:
        super().__init__(f"There is no gate {name[:100]!r} of {model!r}.")


class LoadTestNotFound(NotFound):
    def __init__(self, model: str, version: int, number: int) -> None:
        super().__init__(f"Version {version} of {model!r} has no load test {number}, or has it no more.")


class OtherBytesTested(Conflict):
    """A load test of files that aren't the version's, as when the version was deleted and made anew meanwhile."""

    def __init__(self, model: str, version: int, *, tested: str, digest: str | None) -> None:
        has = f"has {digest}" if digest else "has not been loaded yet"
        super().__init__(f"The load test is of the digest {tested[:64]!r}; version {version} of {model!r} {has}.")


class GatesNotMet(PermissionDenied):
    """403, which MLflow's client raises at once and doesn't try again."""

    def __init__(self, model: str, kept_out: Sequence[tuple[str, int, Mapping[str, str]]]) -> None:
        """*kept_out*: the alias or arm, or the empty text for a pin; the version; each gate that isn't met, and why."""
        said = " ".join(f"{_kept_from(model, place, version)}: {_unmet(why)}." for place, version, why in kept_out)
        super().__init__(f"{said} Nothing was changed.")


def _kept_from(model: str, place: str, version: int) -> str:
    return f"Version {version} of {model!r} may not be {repr(place) if place else 'pinned'} so far"


def _unmet(why: Mapping[str, str]) -> str:
    return "; ".join(f"gate {name!r} {said}" for name, said in sorted(why.items()))


class AliasMoved(Conflict):
    """Somebody else was quicker."""

    def __init__(self, name: str, alias: str, *, means: int | None, expected: int | None, mover: str | None) -> None:
        by = f"; {mover} was the last to move it" if mover else ""
        super().__init__(
            f"The alias {alias!r} of {name!r} means {_version(means)} and not {_version(expected)}{by}. "
            "Nothing was changed."
        )


def _version(number: int | None) -> str:
    return "no version" if number is None else f"version {number}"


class NameTaken(AlreadyExists):
    """A name that a model or a prompt has; the two share one space of names."""

    def __init__(self, name: str, *, taken_by_prompt: bool, wanted_for_prompt: bool) -> None:
        old = "prompt" if taken_by_prompt else "registered model"
        new = "prompt" if wanted_for_prompt else "registered model"
        if old == new:
            super().__init__(f"{new.title()} (name={name}) already exists.")
        else:
            super().__init__(
                f"Tried to create a {new} with name {name!r}, but the name is already taken by a {old}. "
                "A model and a prompt can't have the same name."
            )


class SourceNotOwned(InvalidParameter):
    """A source inside the store that the request doesn't prove to be its own run's or logged model's."""

    def __init__(self, source: str, parameter: str) -> None:
        super().__init__(
            f"Invalid model version source: '{source}'. The {parameter} request parameter must identify the resource "
            "that contains the source."
        )


class SourceNotAllowed(InvalidParameter):
    """A source outside of everything that versions may be made from."""

    def __init__(self, source: str) -> None:
        super().__init__(
            f"Invalid model version source: '{source}'. Expected runs:/RUN_ID/PATH, models:/MODEL_ID, "
            "models:/NAME/VERSION, models:/NAME@ALIAS, mlflow-artifacts:/PATH, or a URI under the artifact root or "
            "under a prefix listed in the setting TITLEBOUT_SOURCE_PREFIXES."
        )


class TooManySignatures(Conflict):
    def __init__(self, name: str, version: int, most: int) -> None:
        super().__init__(f"Version {version} of {name!r} has {most} signatures, the most there may be: delete one.")


class FilesStillComing(Conflict):
    """A folder that changed while a version of it, registered before its files, was loaded."""

    def __init__(self, name: str, version: int) -> None:
        super().__init__(
            f"Files of version {version} of {name!r} came while it was loaded; it is loaded again with them."
        )


class PromptAsSource(InvalidParameter):
    def __init__(self, source: str) -> None:
        super().__init__(
            f"Invalid model version source: '{source}'. A prompt's version can't be the source of a model version."
        )


class NotAPromptSource(InvalidParameter):
    """A prompt with a source that clients don't send for prompts: it would be read as a place with files in it."""

    def __init__(self, source: str) -> None:
        super().__init__(f"Invalid prompt source: '{source}'. Prompt sources must use an MLflow placeholder.")


class UnreadableModelUri(InvalidParameter):
    def __init__(self, uri: str) -> None:
        super().__init__(
            f"Not a proper models:/ URI: {uri}. Expected models:/NAME/VERSION, models:/NAME/STAGE, "
            "models:/NAME/latest or models:/NAME@ALIAS."
        )
