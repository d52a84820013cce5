"""The floor: a gateway of bare aiohttp that passes bytes through and does nothing else.

    bare_aiohttp.py PORT UPSTREAM

No limits, no timeouts, no records, no errors handled. Every ratio of the bench is against this.
"""

import argparse
import asyncio

import aiohttp
import uvloop
from aiohttp import web

HOP = {"host", "content-length", "transfer-encoding", "connection", "keep-alive", "accept-encoding"}
SESSION = web.AppKey("session", aiohttp.ClientSession)
UPSTREAM = web.AppKey("upstream", str)


async def passthrough(request: web.Request) -> web.StreamResponse:
    """Send the request on, and its reply back: whole, or chunk by chunk when it is an event stream."""
    body = await request.read()
    headers = {name: value for name, value in request.headers.items() if name.lower() not in HOP}
    url = request.app[UPSTREAM] + request.path_qs
    async with request.app[SESSION].post(url, data=body, headers=headers) as upstream:
        content_type = upstream.headers.get("Content-Type", "application/octet-stream")
        if not content_type.startswith("text/event-stream"):
            data = await upstream.read()
            return web.Response(body=data, status=upstream.status, headers={"Content-Type": content_type})
        response = web.StreamResponse(
            status=upstream.status, headers={"Content-Type": content_type, "Cache-Control": "no-cache"}
        )
        await response.prepare(request)
        async for chunk in upstream.content.iter_any():
            await response.write(chunk)
        await response.write_eof()
        return response


async def serve(port: int, upstream: str) -> None:
    """Serve for ever on 127.0.0.1."""
    app = web.Application(client_max_size=64 << 20)
    app[UPSTREAM] = upstream
    app[SESSION] = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=60),
        auto_decompress=False,
        timeout=aiohttp.ClientTimeout(total=None),
    )
    app.router.add_post("/{path:.*}", passthrough)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, backlog=1024).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("port", type=int)
    parser.add_argument("upstream")
    arguments = parser.parse_args()
    uvloop.run(serve(arguments.port, arguments.upstream))
