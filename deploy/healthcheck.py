#!/usr/bin/env python3
"""Whether the gateway or stream worker of this container is ready: `healthcheck PORT`, exit status 0 or 1.

The image has neither curl nor wget, and needs none. Plain sockets of http.client, since urllib would send the
question to a proxy where the environment names one.
"""

import http.client
import sys
from collections.abc import Sequence

_SECONDS = 4.0


def main(arguments: Sequence[str]) -> int:
    """Ask /health/ready on a port of this host; 1, and one line on standard error, for anything but 200."""
    if len(arguments) != 1 or not arguments[0].isdigit():
        print("healthcheck: expected a port", file=sys.stderr)
        return 2
    connection = http.client.HTTPConnection("127.0.0.1", int(arguments[0]), timeout=_SECONDS)
    try:
        connection.request("GET", "/health/ready")
        reply = connection.getresponse()
        said = reply.read(200).decode(errors="replace").strip()
    except (OSError, http.client.HTTPException) as error:
        print(f"healthcheck: no answer on port {arguments[0]}: {error}", file=sys.stderr)
        return 1
    finally:
        connection.close()
    if reply.status != http.client.OK:
        print(f"healthcheck: {reply.status}: {said}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
