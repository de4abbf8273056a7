"""Whether a server asks who is calling."""

from ipaddress import ip_address

from gateway.settings import Access, Settings


def is_loopback(host: str) -> bool:
    return host == "localhost" or (is_address(host) and ip_address(host).is_loopback)


def is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def is_open(settings: Settings) -> bool:
    """Whether everybody may do everything: on loopback, unless told otherwise, and with nobody who says who it is."""
    is_asked = settings.access is Access.REQUIRED or settings.trusted_proxies or settings.oidc_issuer
    return is_loopback(settings.host) and not is_asked
