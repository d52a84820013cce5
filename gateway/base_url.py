"""An upstream's base URL, taken apart once: where the client's paths go below it."""

from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from gateway.yaml_lines import ConfigError

__all__ = ["BaseUrl", "base_url"]

_ENDPOINTS = ("/chat/completions", "/completions", "/embeddings", "/models", "/responses")
_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class BaseUrl:
    """`root` as in `Upstream`; `name` is `host[:port]`; `bare`: nothing but a host, or a host and `/v1`."""

    root: str
    name: str
    drops_v1: bool
    bare: bool


def base_url(url: str) -> BaseUrl:
    """Read a base URL, with or without a trailing `/v1`; what cannot be one is a `ConfigError`.

    `https://host` and `https://host/v1` are the same; below any other path, such as
    `https://host/v1beta/openai`, that path takes the place of the client's `/v1`.
    """
    parts = _split(url)
    path = parts.path.rstrip("/")
    _refuse_endpoint(path)
    trimmed = path.removesuffix("/v1")
    drops_v1 = bool(trimmed) and trimmed == path
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    port = parts.port
    netloc = f"{host}:{port}" if port is not None else f"{host}"
    name = f"{host}" if port == _DEFAULT_PORTS[parts.scheme] else netloc
    return BaseUrl(f"{parts.scheme}://{netloc}{trimmed}", name, drops_v1, bare=not path)


def _split(url: str) -> SplitResult:
    """The parts of a URL that can be a base; errors quote it only where it holds no secret."""
    if not url.isascii() or any(not char.isprintable() or char in ' "<>\\^`{|}' for char in url):
        raise ConfigError("a URL has no spaces, control characters or letters beyond ASCII")
    try:
        parts = urlsplit(url)
        valid_port = parts.port is None or parts.port > 0
    except ValueError:
        raise ConfigError("not a URL: its host or port is malformed") from None
    if "@" in url:
        raise ConfigError("a URL with user or password is not used; put the key into api_key")
    if "?" in url or "#" in url:
        raise ConfigError("a base URL has no query (?) and no fragment (#)")
    if parts.scheme not in _DEFAULT_PORTS:
        raise ConfigError(f"{url!r} does not begin with http:// or https://")
    if not parts.hostname or not valid_port:
        raise ConfigError(f"{url!r} has no host, or no valid port")
    return parts


def _refuse_endpoint(path: str) -> None:
    endpoint = next((end for end in _ENDPOINTS if path.endswith(end)), None)
    if endpoint:
        raise ConfigError(f"a base URL ends before {endpoint}: leave that off, the client's path follows it")
