"""A request's body, read whole."""

from aiohttp.web_request import BaseRequest

from gateway.refusal import Refusal

__all__ = ["read_body"]


async def read_body(request: BaseRequest, limit: int, hint: str) -> bytes:
    """Return the client's whole body; raise Refusal (413, with a hint of what to do) above `limit` bytes."""
    if not request.body_exists:
        return b""
    expected = request.content_length or 0
    if expected <= limit and "Expect" in request.headers and request.version >= (1, 1):
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    parts: list[bytes] = []
    size = 0
    while max(size, expected) <= limit:
        data = await request.content.readany()
        if not data:
            return parts[0] if len(parts) == 1 else b"".join(parts)
        parts.append(data)
        size += len(data)
    raise Refusal(413, "body_too_large", f"the request body is larger than {limit} bytes ({hint})")
