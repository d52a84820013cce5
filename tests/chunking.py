"""Streams cut as a network may cut them."""


def cut_up(stream: bytes, sizes: list[int]) -> list[bytes]:
    """The pieces of `stream` of these sizes, and what is left; none of them empty."""
    pieces = []
    for size in sizes:
        pieces.append(stream[:size])
        stream = stream[size:]
    return [piece for piece in (*pieces, stream) if piece]
