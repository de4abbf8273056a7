"""What there is in place of what was named, for whoever mistyped it."""

from gateway.cli.client import Client, Refused
from tracking.errors import NotFound

_NAMES_SHOWN_MAX = 10


class NothingThere(NotFound):
    """A model, a version or an alias that isn't there, beside those that are."""


def instead_of(client: Client, model: str, version: str, refused: Refused) -> Exception:
    """What there is instead of what was named; what the server said, if that says no more."""
    found = client.find_model(model)
    if found is None:
        names = client.model_names(_NAMES_SHOWN_MAX)
        return NothingThere(f"There is no model {model!r}; there are: {', '.join(names) or 'none yet'}.")
    if version.startswith("@"):
        aliases = sorted(found["aliases"])
        return NothingThere(f"{model!r} has no alias {version[1:]!r}; it has: {', '.join(aliases) or 'none'}.")
    if found["newest_version"] is None:
        return NothingThere(f"{model!r} has no version yet.")
    if int(version) > found["newest_version"]:
        return NothingThere(f"{model!r} has no version {version}; its newest is {found['newest_version']}.")
    return refused
