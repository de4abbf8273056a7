"""Reads the forms of our own pages, and nobody else's.

The proof that a form is of a page of ours follows from a cookie: the session's, or where no session is, before signing
in and behind a proxy that does it, one that is there for forms alone. Without it another site's page could sign
somebody in as somebody else, and have them work in the wrong name.
"""

import secrets
from collections.abc import Mapping
from urllib.parse import parse_qs

import msgspec

from gateway.access.cookies import FORM, SESSION, csrf_token, find_cookie, form_cookie, is_csrf_token
from gateway.access.identity import IDENTITY
from gateway.api.own_pages import CsrfTokenWrong, ensure_own_page, is_form
from gateway.web.pages import AnyRequest
from tracking.errors import BadRequest, ErrorCode, ServingError

CSRF_FIELD = "csrf_token"
BODY_BYTES_MAX = 65_536
_FIELDS_MAX = 200


class FormExpected(ServingError):
    code = ErrorCode.UNSUPPORTED_MEDIA_TYPE

    def __init__(self) -> None:
        super().__init__("This is for the forms of our pages; programs have /api/1.0/titlebout.")


class Form(msgspec.Struct, frozen=True):
    fields: Mapping[str, list[str]]

    def text(self, name: str) -> str:
        """The field *name*, the first if there are more; the empty text if there is none."""
        return self.fields.get(name, [""])[0]

    def texts(self, name: str) -> list[str]:
        return self.fields.get(name, [])


async def read_form(request: AnyRequest) -> Form:
    """The form that a page of ours sent.

    Raises:
        FormExpected, BadRequest: if it is no form.
        OriginMissing, OriginWithoutHttps, CsrfTokenWrong: if another's page could have sent it.
    """
    headers = dict(request.scope["headers"])
    if not is_form(headers):
        raise FormExpected
    ensure_own_page(request.scope, headers)
    try:
        # Escapes of bytes that are no UTF-8, too.
        fields = parse_qs(
            (await request.body()).decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=_FIELDS_MAX
        )
    except ValueError:
        raise BadRequest("The body isn't a form.") from None
    form = Form(fields)
    if not is_csrf_token(form.text(CSRF_FIELD), _secret(request) or ""):
        raise CsrfTokenWrong
    return form


def proof_for(request: AnyRequest) -> tuple[str, str | None]:
    """What the forms of a page that answers *request* have in `CSRF_FIELD`, and a cookie to set, if it takes one."""
    secret = _secret(request)
    if secret is not None:
        return csrf_token(secret), None
    secret = secrets.token_urlsafe(32)
    return csrf_token(secret), form_cookie(secret)


def _secret(request: AnyRequest) -> str | None:
    identity = IDENTITY.get()
    has_session = identity is not None and identity.is_session
    return find_cookie(request.scope["headers"], SESSION if has_session else FORM)
