"""Addresses to bind: plain questions about their text."""

from ipaddress import ip_address


def is_loopback(host: str) -> bool:
    """Whether a bind address is reachable from this machine alone."""
    return host == "localhost" or (is_address(host) and ip_address(host.strip("[]")).is_loopback)


def is_address(text: str) -> bool:
    """Whether a text is an IP address; IPv6 with or without brackets."""
    try:
        ip_address(text.strip("[]"))
    except ValueError:
        return False
    return True
