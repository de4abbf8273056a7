"""uvicorn's HTTP protocol, where an offer to upgrade costs no body.

Java's HTTP client offers HTTP/2 with each request over plain HTTP, and a server may ignore that (RFC 9110, 7.8). But
the parser takes such a request to end with its headers, and would read the body as the next request. So it is given
the headers again without the offer.
"""

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gateway import whole_answers

_INVALID = "Invalid HTTP request received."


class StayingProtocol(HttpToolsProtocol):
    """Stays with HTTP/1.1, whatever is offered."""

    def on_headers_complete(self) -> None:
        if not self.parser.should_upgrade():
            super().on_headers_complete()
            # The request is answered in a later turn of the loop.
            whole_answers.offer(self)

    def on_message_complete(self) -> None:
        if not self.parser.should_upgrade():
            super().on_message_complete()

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        rest: bytes | memoryview = data
        # Each round is another request with an offer, so that there are no more than were sent.
        while rest:
            try:
                self.parser.feed_data(rest)
            except httptools.HttpParserUpgrade as head_ended:
                rest = memoryview(rest)[head_ended.args[0] :]
                if not self._read_again():
                    return
            except httptools.HttpParserError:
                self._refuse()
                return
            else:
                return

    def _read_again(self) -> bool:
        """Read the headers that were just read without the offer; False if the request makes no sense then."""
        method = self.parser.get_method()
        if method == b"CONNECT":
            # Asks for a tunnel. We are no proxy.
            self._refuse()
            return False
        version = self.parser.get_http_version().encode()
        lines = [b"%s %s HTTP/%s" % (method, self.url, version)]
        lines += [b"%s: %s" % (name, value) for name, value in self.headers if name != b"upgrade"]
        self.parser = httptools.HttpRequestParser(self)
        # As uvicorn does, for answers to what comes before a `Connection: close`.
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self.parser.feed_data(b"\r\n".join([*lines, b"", b""]))
        return True

    def _refuse(self) -> None:
        self.logger.warning(_INVALID)
        self.send_400_response(_INVALID)
