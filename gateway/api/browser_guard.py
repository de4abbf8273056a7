"""Keeps web pages from driving a server on loopback: foreign Host and Origin, and bodies that a form could send.

A page that somebody visits can make their browser send requests to 127.0.0.1. What gives it away are headers that a
page can't forge: Host (after DNS rebinding it is the page's own name) and Origin. A content type other than a form's
makes the browser ask first, and nobody here says yes.
"""

from collections.abc import Iterable, Mapping
from socket import gethostname
from urllib.parse import urlsplit

from gateway.access.openness import is_address, is_loopback
from gateway.api.own_pages import FORM, is_own_form
from tracking.errors import ErrorCode, PermissionDenied, ServingError

_FORM_TYPES = {FORM, b"multipart/form-data", b"text/plain"}
_READS = {"GET", "HEAD", "OPTIONS"}
_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


class ForeignHost(PermissionDenied):
    def __init__(self, host: str) -> None:
        super().__init__(
            f"Requests for host {host!r} are not answered here; TITLEBOUT_ALLOWED_HOSTS lists the names that are."
        )


class ForeignOrigin(PermissionDenied):
    def __init__(self, origin: str) -> None:
        super().__init__(f"A page of {origin!r} may not call this server.")


class FormContentType(ServingError):
    """A body that any web page could send without being asked."""

    code = ErrorCode.UNSUPPORTED_MEDIA_TYPE

    def __init__(self, content_type: str) -> None:
        super().__init__(
            f"Content-Type {content_type!r} is not accepted here; expected application/json, "
            "as by -H 'Content-Type: application/json'."
        )


class BrowserGuard:
    """What a server that listens on *host* accepts. *allowed_hosts* are names besides loopback's own; ``*`` is any."""

    def __init__(self, host: str, allowed_hosts: Iterable[str] = ()) -> None:
        names = {name.strip().lower() for name in allowed_hosts if name.strip()}
        self._any_host = "*" in names
        # On an open address without a list, any of the machine's addresses may lead here, and its own name. No other
        # name: a page can make a browser take its name for our address, but a name it is, and not an address.
        self._any_address = not names and not is_loopback(host)
        own_name = {gethostname().lower()} if self._any_address else set[str]()
        self._names = names | _LOOPBACK_NAMES | own_name | {host.lower()}
        # Parsing costs more than a look-up, and the same few values come all the time.
        self._known_hosts: set[bytes] = set()

    def check(self, method: str, path: str, headers: Mapping[bytes, bytes]) -> None:
        """Raise if the request could come from a page that isn't ours."""
        host, origin = headers.get(b"host", b""), headers.get(b"origin", b"")
        if host not in self._known_hosts:
            self._check_host(host)
        if origin:
            self._check_origin(origin, host)
        content_type = headers.get(b"content-type")
        if content_type and method not in _READS and not _is_upload(method, path):
            kind = content_type.split(b";", 1)[0].strip().lower()
            if kind in _FORM_TYPES and not (kind == FORM and is_own_form(method, path)):
                raise FormContentType(kind.decode("latin-1"))

    def _check_host(self, host: bytes) -> None:
        text = host.decode("latin-1")
        name = _host_name(text)
        if not (self._any_host or name in self._names or (self._any_address and is_address(name))):
            raise ForeignHost(text)
        if len(self._known_hosts) < 64:
            self._known_hosts.add(host)

    @staticmethod
    def _check_origin(origin: bytes, host: bytes) -> None:
        text = origin.decode("latin-1")
        try:
            place = urlsplit(text).netloc.lower()
        except ValueError:
            # No browser sends what can't be read.
            raise ForeignOrigin(text) from None
        if place != host.decode("latin-1").lower():
            raise ForeignOrigin(text)


def _host_name(host: str) -> str:
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


def _is_upload(method: str, path: str) -> bool:
    # MLflow's client sends `notes.txt` as text/plain. A page can't PUT without asking first, so nothing is lost.
    return method == "PUT" and "/mlflow-artifacts/artifacts/" in path
