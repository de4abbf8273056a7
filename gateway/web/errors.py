"""Errors as people see them: a page in place of JSON, and the way to the sign-in page where that is what it takes."""

from urllib.parse import urlencode

from litestar import Response
from litestar.types import ExceptionHandlersMap

from gateway.access.cookies import SESSION, find_cookie, no_session_cookie
from gateway.access.credentials import NoCredentials
from gateway.errors import answer_error, headers_of, status_of
from gateway.web.local_paths import local_path
from gateway.web.pages import AnyRequest, Pages, lead_to, page, wants_page
from tracking.errors import ServingError

_HOME = "/account"


def _answer(request: AnyRequest, error: ServingError) -> Response[str] | Response[dict[str, str]]:
    if not wants_page(request):
        return answer_error(request, error)
    pages: Pages = request.app.state.pages
    if isinstance(error, NoCredentials):
        return _lead_to_signin(request, pages)
    said = answer_error(request, error).content["message"]
    content = pages.render("error.html", message=said)
    answer = page(content, status_code=status_of(error))
    answer.headers.update(headers_of(error))
    return answer


def _lead_to_signin(request: AnyRequest, pages: Pages) -> Response[str]:
    """Signing in is what it takes, unless a link from elsewhere made the browser leave the cookie at home."""
    is_read = request.method == "GET"
    here = local_path(_path_and_query(request), _HOME) if is_read else _HOME
    if is_read and request.headers.get("sec-fetch-site") in {"cross-site", "same-site"}:
        return pages.go_on(here)
    had_one = find_cookie(request.scope["headers"], SESSION) is not None
    return lead_to(f"/signin?{urlencode({'next': here})}", cookie=no_session_cookie() if had_one else None)


def _path_and_query(request: AnyRequest) -> str:
    path = request.scope["raw_path"].partition(b"?")[0]
    query = request.scope["query_string"]
    return (path + b"?" + query if query else path).decode("latin-1")


PAGE_ERRORS: ExceptionHandlersMap = {ServingError: _answer}
"""For handlers of pages: callers that aren't browsers are answered as everywhere."""
