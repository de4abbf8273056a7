"""A real OpenID Connect issuer on loopback, to whom everybody is Ann, and whose lies can be chosen."""

import base64
import hashlib
import hmac
import json
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

CLIENT_ID = "titlebout"
CLIENT_SECRET = "of-titlebout-for-the-issuer"
ABSENT = object()
"""In a lie: what would be there isn't."""


class OidcIssuer:
    """What it says is true but for *lies*: claims of the token, parameters of the way back, fields of discovery.

    `calls` counts the requests to each path.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        from joserfc.jwk import RSAKey

        self.key: Any = RSAKey.generate_key(2048, {"kid": "first", "use": "sig"})
        self.calls: dict[str, int] = {}
        self._codes: dict[str, dict[str, str]] = {}
        self.be_honest()

    def be_honest(self) -> None:
        self.claim_lies: dict[str, Any] = {}
        self.header_lies: dict[str, Any] = {}
        self.answer_lies: dict[str, Any] = {}
        self.discovery_lies: dict[str, Any] = {}
        self.signing_key: Any = None
        """Another key than the one that is published."""
        self.shared_secret: bytes | None = None
        """By which anybody who knows it may have signed."""
        self.unsigned = False
        self.away: set[str] = set()
        """Paths that are answered by 503."""
        self.huge: set[str] = set()
        """Paths that are answered at length."""
        self.slow: set[str] = set()
        """Paths that aren't answered before `release` is set."""
        self.release = threading.Event()
        self.wants_secret = True

    def rotate(self, kid: str) -> None:
        from joserfc.jwk import ECKey

        self.key = ECKey.generate_key("P-256", {"kid": kid, "use": "sig", "alg": "ES256"})

    # --- what is asked

    def discovery(self) -> dict[str, Any]:
        return changed(
            {
                "issuer": self.url,
                "authorization_endpoint": f"{self.url}/authorize",
                "token_endpoint": f"{self.url}/token",
                "jwks_uri": f"{self.url}/keys",
                "response_types_supported": ["code"],
                "id_token_signing_alg_values_supported": ["RS256", "ES256"],
            },
            self.discovery_lies,
        )

    def keys(self) -> dict[str, Any]:
        # Beside it what is none of ours: another use, another kind, too small, and no key at all.
        others = [{"kty": "AKP", "kid": "later"}, {"kty": "RSA", "n": "AQAB", "e": "AQAB", "kid": "small"}, "none"]
        return {"keys": [*others, self.key.as_dict(private=False)]}

    def authorize(self, query: dict[str, str]) -> str:
        """Where the browser goes next: Ann is signed in here, and always says yes."""
        assert query["response_type"] == "code"
        assert query["client_id"] == CLIENT_ID
        assert "openid" in query["scope"].split()
        assert query["code_challenge_method"] == "S256"
        code = secrets.token_urlsafe(16)
        self._codes[code] = query
        answer = changed({"code": code, "state": query["state"], "iss": self.url}, self.answer_lies)
        return f"{query['redirect_uri']}?{urlencode(answer)}"

    def exchange(self, form: dict[str, str], authorization: str | None) -> tuple[int, dict[str, Any]]:
        if self.wants_secret and authorization != basic(CLIENT_ID, CLIENT_SECRET):
            return 401, {"error": "invalid_client"}
        asked = self._codes.pop(form.get("code", ""), None)
        if asked is None:
            return 400, {"error": "invalid_grant", "error_description": "<b>no such code</b>"}
        hashed = hashlib.sha256(form["code_verifier"].encode()).digest()
        if encoded(hashed) != asked["code_challenge"]:
            return 400, {"error": "invalid_grant", "error_description": "another browser's"}
        assert form["redirect_uri"] == asked["redirect_uri"]
        return 200, {"access_token": "opaque", "token_type": "Bearer", "id_token": self.token(asked["nonce"])}

    def token(self, nonce: str) -> str:
        from joserfc import jwt

        now_s = int(time.time())
        claims = {
            "iss": self.url,
            "aud": CLIENT_ID,
            "sub": "248289761001",
            "nonce": nonce,
            "iat": now_s,
            "exp": now_s + 300,
            "email": "ann@example.org",
            "email_verified": True,
            "preferred_username": "ann",
        }
        key = self.signing_key or self.key
        header = {"alg": "ES256" if key.key_type == "EC" else "RS256", "kid": self.key.kid}
        header, claims = changed(header, self.header_lies), changed(claims, self.claim_lies)
        if self.unsigned:
            return f"{segment({**header, 'alg': 'none'})}.{segment(claims)}."
        if self.shared_secret is not None:
            # By hand: no library that is any good lets a public key be one.
            said = f"{segment({**header, 'alg': 'HS256'})}.{segment(claims)}"
            return f"{said}.{encoded(hmac.digest(self.shared_secret, said.encode(), hashlib.sha256))}"
        return jwt.encode(header, claims, key, algorithms=[header["alg"]])


def changed(true: dict[str, Any], lies: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in {**true, **lies}.items() if value is not ABSENT}


def segment(said: dict[str, Any]) -> str:
    return encoded(json.dumps(said).encode())


def encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@contextmanager
def running_issuer() -> Iterator[OidcIssuer]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self._hindered():
                return
            parts = urlsplit(self.path)
            match parts.path:
                case "/.well-known/openid-configuration":
                    self._answer(200, issuer.discovery())
                case "/keys":
                    self._answer(200, issuer.keys())
                case "/authorize":
                    where = issuer.authorize({name: values[0] for name, values in parse_qs(parts.query).items()})
                    self._answer(303, {}, location=where)
                case _:
                    self._answer(404, {})

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            if self._hindered():
                return
            form = {name: values[0] for name, values in parse_qs(body).items()}
            self._answer(*issuer.exchange(form, self.headers["Authorization"]))

        def _hindered(self) -> bool:
            path = urlsplit(self.path).path
            issuer.calls[path] = issuer.calls.get(path, 0) + 1
            if path in issuer.slow:
                issuer.release.wait(20)
            if path in issuer.away:
                self._answer(503, {})
            elif path in issuer.huge:
                self._answer(200, {"keys": [], "more": "x" * 1_000_000})
            return path in issuer.away | issuer.huge

        def _answer(self, status: int, body: dict[str, Any], location: str | None = None) -> None:
            content = json.dumps(body).encode()
            self.send_response(status)
            if location is not None:
                self.send_header("Location", location)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            try:
                self.wfile.write(content)
            except OSError:
                # Whoever asked has heard enough.
                self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    issuer = OidcIssuer(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield issuer
    finally:
        issuer.release.set()
        server.shutdown()
        server.server_close()
        thread.join(10)
