"""What answers tell browsers: to guess no type, run nothing, show nothing within other pages, keep nothing."""

from litestar.types import Message, Send

NOSNIFF = (b"x-content-type-options", b"nosniff")
"""All that a prediction carries. Pages can't get at it: they would have to ask by POST, and are refused."""

PAGE_CSP = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
"""For pages of ours: their own style, and nothing that runs or is loaded."""

FORM_CSP = PAGE_CSP.replace("form-action 'none'", "form-action 'self'")
"""For those of them that people fill in."""

PROTECTIVE_HEADERS = (
    NOSNIFF,
    # Whatever somebody logged, shown as if it were a page of ours, may do nothing in our name, nor be of our origin.
    (
        b"content-security-policy",
        b"default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; sandbox",
    ),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)


def protecting(send: Send, *more: tuple[bytes, bytes]) -> Send:
    """*send*, with those headers that an answer doesn't bring itself, and *more*."""

    async def send_protected(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = list(message["headers"])
            own = {name for name, _ in headers}
            message["headers"] = [*headers, *(each for each in PROTECTIVE_HEADERS if each[0] not in own), *more]
        await send(message)

    return send_protected
