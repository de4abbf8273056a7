"""How pages are made and given out: of templates that share one frame, with what browsers are told of them."""

from functools import cached_property
from typing import TYPE_CHECKING, Any

from litestar import MediaType, Request, Response
from litestar.status_codes import HTTP_200_OK, HTTP_303_SEE_OTHER

from gateway.access.openness import is_loopback
from gateway.api.browser_headers import FORM_CSP, PAGE_CSP

if TYPE_CHECKING:
    from jinja2 import Environment

AnyRequest = Request[Any, Any, Any]


class Pages:
    """The templates, read when the first page is shown: most workers show none, and would pay for it."""

    @cached_property
    def _environment(self) -> "Environment":
        import jinja2  # noqa: PLC0415  (as above)

        loader = jinja2.PackageLoader("gateway.web")
        return jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)

    def render(self, template: str, **facts: Any) -> str:
        return self._environment.get_template(template).render(**facts)

    def go_on(self, path: str, *, cookie: str | None = None) -> Response[str]:
        """A page that goes on to *path*, one of ours, by itself.

        A cookie that is SameSite=Strict isn't sent with a request that another site's page caused, nor with those to
        which that one is redirected. What a page of ours causes is ours again. So this stands where somebody comes
        from elsewhere: back from an identity provider, or by a link.
        """
        return page(self.render("go_on.html", path=path), cookie=cookie)


def page(
    content: str, *, status_code: int = HTTP_200_OK, cookie: str | None = None, has_form: bool = False
) -> Response[str]:
    """*content* as it is sent, with *cookie* as the value of its Set-Cookie."""
    headers = {"Content-Security-Policy": FORM_CSP if has_form else PAGE_CSP}
    if has_form:
        # By "no-referrer" browsers would send the page's forms with "Origin: null", which could be anybody's.
        headers["Referrer-Policy"] = "same-origin"
    if cookie is not None:
        headers["Set-Cookie"] = cookie
    return Response(content, media_type=MediaType.HTML, status_code=status_code, headers=headers)


def lead_to(path: str, *, cookie: str | None = None) -> Response[str]:
    """Have the browser get *path*, one of ours, next."""
    headers = {"Location": path} if cookie is None else {"Location": path, "Set-Cookie": cookie}
    return Response("", media_type=MediaType.HTML, status_code=HTTP_303_SEE_OTHER, headers=headers)


def wants_page(request: AnyRequest) -> bool:
    """Whether a person waits for the answer: nobody but browsers asks for HTML by name."""
    return "text/html" in request.headers.get("accept", "")


def keeps_cookies(request: AnyRequest) -> bool:
    """Whether the browser will keep ours, which it does over HTTPS, and where this is its own machine."""
    return request.scope["scheme"] == "https" or is_loopback(request.url.hostname or "")
