"""The stack of this machine: what transformers run on here, and in what state it is just now."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from profiler.hardware import present
from profiler.host import busy, describe_host, hardware_name
from profiler.nvml import Board, BoardError
from profiler.subjects import Stack
from stream import __version__
from stream.command import UsageError

__all__ = ["this_stack", "told"]

_STABLE = ("processor", "architecture", "logical_processors", "cores", "processor_limit")


def this_stack(
    device: str | None, dtype: str | None, name: str | None, *, compiled: bool, threads: int | None
) -> tuple[Stack, Board | None]:
    """The stack, and its board where there is one; defaults are torch's. UsageError without the extra `profiler`."""
    try:
        from profiler import measure
    except ModuleNotFoundError as error:
        raise UsageError(f"to run models here takes {error.name}: pip install 'trueclock[profiler]'") from None
    device = measure.checked_device(device)
    board = None if device == "cpu" else Board.of(measure.board_id(device))
    host = describe_host()
    hardware: dict[str, Any] = {key: host[key] for key in _STABLE if key in host}
    hardware = {"name": host.get("processor", "processor"), **hardware}
    called = hardware_name(None)
    if device != "cpu":
        described = measure.describe_board(device)
        called = hardware_name(described["name"])
        known = present(called)
        hardware = {**described, "board": True, "accelerator": known and known.device}
    software = {"steps": "compiled" if compiled else "eager", **measure.software(device, threads)}
    if board is not None:
        software["driver"] = board.describe().get("driver")
    stack = Stack(
        name=name or f"{called}-transformers{'-compiled' if compiled else ''}",
        device=device,
        dtype=dtype or measure.default_dtype(device),
        compiled=compiled,
        hardware=hardware,
        software=software,
        room_bytes=measure.room_bytes(device),
    )
    return stack, board


def told(board: Board | None) -> Mapping[str, Any]:
    """What may differ from time to time: clocks, and what others do on this machine."""
    found: dict[str, Any] = {"trueclock": __version__, "host": describe_host(), "others_share": busy() or 0.0}
    if board is not None:
        with suppress(BoardError):  # a part of a board tells less, and can be measured all the same
            found |= {"board": board.describe(), "others_on_board": board.others(), "clocks": board.clocks()}
    return found
