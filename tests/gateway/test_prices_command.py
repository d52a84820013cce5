"""`gateway prices`: shows what is in use, and takes prices from a server, a file or an installed litellm."""

import errno
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from gateway import prices_command
from gateway.cli import main
from stream.prices import load_prices

ENTRY = {"input_cost_per_token": 2e-6, "output_cost_per_token": 8e-6, "litellm_provider": "openai", "mode": "chat"}
MAP = {"sample_spec": {}, "m": ENTRY, "groq/acme/m": {**ENTRY, "litellm_provider": "groq"}, "paints": {"mode": "image"}}


@contextmanager
def server(status: int, content: bytes) -> Iterator[str]:
    """A server that answers every request so; its URL."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as served:
        thread = threading.Thread(target=served.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{served.server_port}/map.json"
        finally:
            served.shutdown()
            thread.join()


def said(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, list[str], str]:
    """Exit status, lines, errors."""
    status = main(["prices", *map(str, arguments)])
    out, errors = capsys.readouterr()
    return status, out.splitlines(), errors


def refreshed(origin: object, out: Path) -> list[str]:
    """Arguments; the maps here are small beside the one that ships."""
    return ["--refresh", "--force", "--from", str(origin), "--out", str(out)]


def written(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content))
    return path


def test_the_shipped_prices_are_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, lines, _ = said(capsys, "gpt-4o", "gpt-4o-2031-01-01", "--data-dir", tmp_path)
    assert status == 0
    assert lines[0].startswith(f"shipped prices: {len(load_prices().file.models)} models, litellm ")
    assert lines[1] == "gpt-4o (provider openai)"
    assert "  input_cost_per_token: 2.5e-6" in lines
    assert "  litellm_provider: openai" in lines
    assert "gpt-4o-2031-01-01: as gpt-4o (provider openai)" in lines


def test_a_provider_and_prices_of_ones_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = ("gemini-2.5-pro", "--data-dir", tmp_path, "--provider")
    status, lines, _ = said(capsys, *where, "gcp.gemini")
    assert (status, lines[1]) == (0, "gemini-2.5-pro: as gemini/gemini-2.5-pro (provider gcp.gemini)")
    status, lines, _ = said(capsys, *where, "openai")
    assert status == 1
    assert lines[1].startswith(
        "gemini-2.5-pro: no price at provider openai; there are gemini-2.5-pro (gcp.vertex_ai), "
    )
    own = written(
        tmp_path / "own.json", {"prices": {"gemini-2.5-pro": {k: v for k, v in ENTRY.items() if "cost" in k}}}
    )
    status, lines, _ = said(capsys, *where, "openai", "--constants", own)
    assert (status, lines[1]) == (0, "gemini-2.5-pro (your own price, at any provider)")
    assert "  input_cost_per_token: 2e-6" in lines


def test_a_list_that_lacks_most_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    origin, out = written(tmp_path / "map.json", MAP), tmp_path / "prices.json"
    status, lines, errors = said(capsys, "--refresh", "--from", origin, "--data-dir", tmp_path)
    assert (status, lines) == (2, [])
    assert errors.startswith(f"gateway prices: {origin}: ")
    assert errors.endswith(
        " would have no price any more: --force takes these all the same; the prices in use stay as they are\n"
    )
    assert not out.exists()
    assert said(capsys, "--refresh", "--from", origin, "--data-dir", tmp_path, "--force")[0] == 0
    assert said(capsys, "--refresh", "--from", origin, "--data-dir", tmp_path)[0] == 0, "that is all there were"
    elsewhere = tmp_path / "other.json"
    assert (
        said(capsys, *refreshed(origin, elsewhere), "--data-dir", tmp_path)[1][-1] == f"--prices {elsewhere} takes them"
    )


def test_a_price_of_nothing_bills_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path / "map.json", {**MAP, "z": {"input_cost_per_token": 0.0, "litellm_provider": "acme"}})
    _, lines, _ = said(capsys, "z", "--prices", path)
    assert lines[-1] == "  not billed by it: unknown_price"


def test_an_unknown_model_names_those_like_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path / "map.json", MAP)
    status, lines, errors = said(capsys, "acme/m", "m", "zai/m", "groq/none", "--prices", path)
    assert (status, errors) == (1, "")
    assert lines[1:3] == ["acme/m: no price; there are groq/acme/m, m", "m (provider openai)"]
    assert lines[-2:] == ["zai/m: no price; there are groq/acme/m, m", "groq/none: no price"]


def test_prices_come_from_a_server(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data_dir = tmp_path / "new" / "data"
    with server(200, json.dumps(MAP).encode()) as url:
        status, lines, _ = said(capsys, "--refresh", "--from", url, "--data-dir", data_dir, "--force")
    assert status == 0
    assert lines[0].startswith(f"{data_dir / 'prices.json'}: 2 models, {url}, 20")
    assert lines[1].startswith("2 models added, ")
    assert lines[-1] == "gateway run takes them at its next start; without this file it takes the shipped ones"
    assert load_prices(data_dir / "prices.json").entry("m") == ("m", {k: v for k, v in ENTRY.items() if k != "mode"})
    _, lines, _ = said(capsys, "--data-dir", data_dir)
    assert lines == [f"{data_dir / 'prices.json'}: 2 models, {url}, {load_prices(data_dir / 'prices.json').file.date}"]


def test_what_changed_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "prices.json"
    assert main(["prices", *refreshed(written(tmp_path / "old.json", MAP), out)]) == 0
    many = {f"n{number:02}": ENTRY for number in range(12)}
    new = {"m": {**ENTRY, "input_cost_per_token": 1e-6, "output_cost_per_token_flex": 4e-6}, **many}
    capsys.readouterr()
    _, lines, _ = said(capsys, *refreshed(written(tmp_path / "new.json", new), out))
    assert lines[1:] == [
        "12 models added, 1 gone, 1 changed",
        *(f"  + n{number:02}" for number in range(10)),
        "  + and 2 more",
        "  - groq/acme/m",
        "  ~ m: input_cost_per_token 2e-6 -> 1e-6, output_cost_per_token_flex null -> 4e-6",
        f"--prices {out} takes them",
    ]


def test_the_same_prices_again_change_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "prices.json"
    main(["prices", *refreshed(written(tmp_path / "map.json", MAP), out)])
    before = out.read_bytes()
    _, lines, _ = said(capsys, *refreshed(out, out))
    assert "0 models added, 0 gone, 0 changed" in lines
    assert out.read_bytes() == before


BAD = {
    "an error": (404, b"gone", "HTTP Error 404: Not Found; the prices in use stay as they are"),
    "a page": (200, b"<html>log in</html>", "not valid JSON"),
    "half of it": (200, json.dumps(MAP).encode()[:100], "not valid JSON"),
    "no prices": (200, b'{"m": {"mode": "chat"}}', "found no price of a token"),
    "nonsense": (200, b'{"m": {"input_cost_per_token": "much"}}', "$.models.m: $.input_cost_per_token: expected float"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_prices_leave_the_old_ones(case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, content, why = BAD[case]
    out = tmp_path / "prices.json"
    main(["prices", *refreshed(written(tmp_path / "map.json", MAP), out)])
    before = out.read_bytes()
    capsys.readouterr()
    with server(status, content) as url:
        failed, lines, errors = said(capsys, *refreshed(url, out))
    assert (failed, lines) == (2, [])
    assert errors.startswith(f"gateway prices: {url}: ")
    assert why in errors
    assert errors.count("\n") == 1
    assert out.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["map.json", "prices.json"]


def test_a_full_disk_leaves_the_old_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "prices.json"
    main(["prices", *refreshed(written(tmp_path / "map.json", MAP), out)])
    before = out.read_bytes()
    capsys.readouterr()

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    status, lines, errors = said(capsys, *refreshed(written(tmp_path / "new.json", {"n": ENTRY}), out))
    assert (status, lines) == (2, [])
    why = "cannot be written: No space left on device; the prices in use stay as they are"
    assert errors == f"gateway prices: {out}: {why}\n"
    assert out.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["map.json", "new.json", "prices.json"]


def test_damaged_prices_stop_a_start_and_are_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "prices.json"
    out.write_text('{"format": 1, "models": {')
    assert main(["run", "--port", "0", "--data-dir", str(tmp_path)]) == 2
    errors = capsys.readouterr().err
    assert errors.startswith(f"gateway run: {out}: not valid JSON: ")
    assert errors.endswith("; `gateway prices --refresh` fetches them anew\n")
    status, lines, _ = said(capsys, *refreshed(written(tmp_path / "map.json", MAP), out))
    assert status == 0
    assert lines[0].startswith(f"{out}: not valid JSON: ")
    assert lines[0].endswith(": replaced")
    assert load_prices(out).entry("m") is not None


def test_a_server_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with server(200, b"") as url:
        pass
    status, _, errors = said(capsys, *refreshed(url, tmp_path / "prices.json"))
    assert status == 2
    assert errors.startswith(f"gateway prices: {url}: ")
    assert "Connection refused" in errors


def test_more_than_a_map_is_not_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prices_command, "_MOST_BYTES", 10)
    with server(200, json.dumps(MAP).encode()) as url:
        status, _, errors = said(capsys, *refreshed(url, tmp_path / "prices.json"))
    assert (status, errors) == (2, f"gateway prices: {url}: more than 10 bytes, which no price map has\n")


def test_prices_come_from_an_installed_litellm_that_is_not_imported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    package, about = tmp_path / "litellm", tmp_path / "litellm-9.9.9.dist-info"
    package.mkdir()
    about.mkdir()
    (package / "__init__.py").write_text("raise AssertionError('imported')")
    written(package / "model_prices_and_context_window_backup.json", MAP)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: litellm\nVersion: 9.9.9\n")
    monkeypatch.syspath_prepend(tmp_path)
    out = tmp_path / "prices.json"
    status, lines, errors = said(capsys, *refreshed("litellm", out))
    assert (status, errors) == (0, "")
    assert "litellm 9.9.9, model_prices_and_context_window_backup.json" in lines[0]
    assert load_prices(out).file.version == "9.9.9"


def test_without_litellm_it_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prices_command, "find_spec", lambda _: None)
    status, _, errors = said(capsys, *refreshed("litellm", tmp_path / "prices.json"))
    assert status == 2
    assert errors.startswith("gateway prices: --from litellm: litellm is not installed here")


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--out", "x.json"], "--from, --out and --force go with --refresh"),
        (["--from", "litellm"], "--from, --out and --force go with --refresh"),
        (["--force"], "--from, --out and --force go with --refresh"),
        (["gpt-4o", "--refresh"], "--refresh goes with --from, --out, --force and --data-dir, and with nothing else"),
        (
            ["--refresh", "--provider", "openai"],
            "--refresh goes with --from, --out, --force and --data-dir, and with nothing else",
        ),
        (["--refresh", "--from", "no/such/file.json"], "no/such/file.json: No such file or directory"),
        (["--prices", "no/such/file.json"], "no/such/file.json: cannot be read: No such file or directory"),
    ],
)
def test_wrong_use_is_one_line(arguments: list[str], why: str, capsys: pytest.CaptureFixture[str]) -> None:
    status, _, errors = said(capsys, *arguments)
    assert (status, errors) == (2, f"gateway prices: {why}\n")
