"""Whether the settings of an issuer can be used, found out before anything is started."""

import importlib.util
import re
from urllib.parse import urlsplit

from gateway.access.openness import is_loopback
from gateway.settings import Settings
from tracking.errors import InvalidParameter

_ISSUER_LENGTH_MAX = 512
# What may stand in a header, as it is sent to the browser there.
_PLAIN = re.compile(r"[!-~]{1,2000}", re.ASCII)


class OidcNotInstalled(InvalidParameter):
    def __init__(self) -> None:
        super().__init__("TITLEBOUT_OIDC_ISSUER is set, and the extra isn't installed: pip install 'titlebout[oidc]'.")


def ensure_oidc_usable(settings: Settings) -> None:
    """Look at what the settings say of an issuer, if they name one.

    Raises:
        OidcNotInstalled: if what this takes isn't there.
        InvalidParameter: naming the variable and what was expected of it.
    """
    if not settings.oidc_issuer:
        return
    _ensure_issuer(settings.oidc_issuer)
    if not settings.oidc_client_id:
        raise InvalidParameter("TITLEBOUT_OIDC_ISSUER is set; TITLEBOUT_OIDC_CLIENT_ID must be, too.")
    if "openid" not in settings.oidc_scopes.split():
        raise InvalidParameter("TITLEBOUT_OIDC_SCOPES must have 'openid' in it.")
    if importlib.util.find_spec("authlib") is None or importlib.util.find_spec("joserfc") is None:
        raise OidcNotInstalled


def is_usable_url(url: str) -> bool:
    """Whether what is sent to *url* is read by nobody on the way: by https, or within this machine."""
    try:
        parts = urlsplit(url)
        name = parts.hostname or ""
    except ValueError:
        return False
    return bool(name and _PLAIN.fullmatch(url)) and (
        parts.scheme == "https" or (parts.scheme == "http" and is_loopback(name))
    )


def _ensure_issuer(issuer: str) -> None:
    if not is_usable_url(issuer) or len(issuer) > _ISSUER_LENGTH_MAX:
        raise InvalidParameter("TITLEBOUT_OIDC_ISSUER must be a URL with https; http is for loopback alone.")
    parts = urlsplit(issuer)
    if parts.query or parts.fragment or parts.username:
        raise InvalidParameter("TITLEBOUT_OIDC_ISSUER must be a URL of a host and a path alone.")
