"""`gateway outcomes`: a file is posted whole, in batches; whatever is wrong is one line."""

import asyncio
import json
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.test_outcomes import outcome, rows
from tests.harness import command, run, serve, within
from tests.servers.openai_like import OpenAILike


def written(folder: Path, *outcomes: Any) -> Path:
    path = folder / "outcomes.jsonl"
    path.write_text("".join(json.dumps(each) + "\n" for each in outcomes))
    return path


async def called(path: Path, url: str) -> tuple[int | None, str, str]:
    """Exit status, standard output, standard error."""
    process = await command("gateway.cli", "outcomes", str(path), "--url", url)
    out, errors = await within(process.communicate())
    return process.returncode, out.decode(), errors.decode()


def posted(path: Path, **settings: Any) -> tuple[tuple[int | None, str, str], list[bytes]]:
    """What the command said of a gateway of its own, and what that has then."""

    async def scenario() -> tuple[tuple[int | None, str, str], list[bytes]]:
        async with serve("http://127.0.0.1:9", **settings) as gateway:
            said = await called(path, gateway.url + "/")
            return said, rows(gateway.settings.data_dir)

    return run(scenario())  # type: ignore[no-any-return]


def test_lines_are_posted_in_batches(tmp_path: Path) -> None:
    said, stored = posted(written(tmp_path, *(outcome(number) for number in range(2345))))
    assert said == (0, "2345 outcomes accepted\n", "")
    assert [json.loads(row)["problem"] for row in stored] == [f"p{number}" for number in range(2345)]


def test_an_array_is_posted_too(tmp_path: Path) -> None:
    path = tmp_path / "outcomes.json"
    path.write_text(json.dumps([outcome(1)], indent=2))
    said, stored = posted(path)
    assert (said, len(stored)) == ((0, "1 outcome accepted\n", ""), 1)


def test_long_ones_go_in_more_requests(tmp_path: Path) -> None:
    long = {"id": "i" * 500, "model": "m" * 500, "strategy": "s" * 500}
    said, stored = posted(written(tmp_path, *(outcome(number, **long) for number in range(900))))
    assert (said, len(stored)) == ((0, "900 outcomes accepted\n", ""), 900)


def test_nothing_of_a_file_with_a_bad_line_is_posted(tmp_path: Path) -> None:
    path = written(tmp_path, *(outcome(number) for number in range(1500)), {"problem": "p", "score": 2})
    said, stored = posted(path)
    line = f"gateway outcomes: {path}: line 1501: score: expected a number from 0 to 1; nothing was posted\n"
    assert said == (2, "", line)
    assert not stored


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("localhost:4000", "--url localhost:4000: expected the gateway's address, such as http://127.0.0.1:4000"),
        ("http://", "--url http://: expected the gateway's address"),
        ("http://x:port", "expected the gateway's address"),
        ("http://127.0.0.1:4000?a=b", "expected the gateway's address"),
        ("ftp://127.0.0.1", "expected the gateway's address"),
    ],
)
def test_what_is_no_address_is_said(tmp_path: Path, url: str, message: str) -> None:
    status, out, errors = run(called(written(tmp_path, outcome(1)), url))
    assert (status, out, errors.count("\n")) == (2, "", 1)
    assert message in errors


def test_a_file_that_is_not_there_or_has_nothing_in_it_is_said(tmp_path: Path) -> None:
    path = tmp_path / "outcomes.jsonl"
    assert run(called(path, "http://x")) == (2, "", f"gateway outcomes: {path}: No such file or directory\n")
    path.write_text("\n \n")
    assert run(called(path, "http://x")) == (2, "", f"gateway outcomes: {path}: no outcome in it\n")


def test_a_gateway_that_is_not_there_is_said(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}"
    status, out, errors = run(called(written(tmp_path, outcome(1)), url))
    reason = "no gateway answers there (Connection refused); is it running? --url names its address"
    assert (status, out, errors) == (2, "", f"gateway outcomes: {url}: {reason}\n")


def test_whoever_else_answers_is_no_gateway(tmp_path: Path) -> None:
    async def scenario() -> tuple[int | None, str, str]:
        async with OpenAILike() as server:
            return await called(written(tmp_path, outcome(1)), server.url)

    status, out, errors = run(scenario())
    assert (status, out, errors.count("\n")) == (2, "", 1)
    assert "outcomes are not taken there: " in errors


def test_a_refusal_half_way_says_how_many_were_taken(tmp_path: Path) -> None:
    async def scenario() -> tuple[str, tuple[int | None, str, str]]:
        answered = 0

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal answered
            try:
                while True:
                    head = await reader.readuntil(b"\r\n\r\n")
                    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                    await reader.readexactly(length)
                    answered += 1
                    body = json.dumps({"error": {"message": "trueclock: the disk is full"}}).encode()
                    status = b"202 Accepted" if answered == 1 else b"503 Service Unavailable"
                    writer.write(b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body))
            except asyncio.IncompleteReadError:
                writer.close()

        async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            return url, await called(written(tmp_path, *(outcome(number) for number in range(2500))), url)

    url, said = run(scenario())
    reason = "outcomes are not taken there: trueclock: the disk is full"
    taken = "(the 1000 before were taken: to post all again does no harm)"
    assert said == (2, "", f"gateway outcomes: {url}: {reason} {taken}\n")
