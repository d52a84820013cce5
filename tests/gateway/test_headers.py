"""Headers on their way through: byte for byte but for those of a connection, and no secret in what is kept."""

import multiprocessing
import stat
from pathlib import Path
from typing import Any

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from gateway.headers import Callers, labels_of, load_salt, to_client, to_upstream
from gateway.routes import Upstream
from stream.outcomes import decode_outcome, fitting_name

PLAIN = Upstream("up", "openai", "http://up")
KEYED = Upstream("up", "openai", "http://up", api_key="sk-own", headers=(("OpenAI-Organization", "org"),))
KEY = "sk-very-secret-key"
REQUEST = (
    (b"Host", b"gateway"),
    (b"X-ODD-case", b"\xff\xfe raw \xc3\xa9"),
    (b"x-odd-case", b"twice"),
    (b"Authorization", b"Bearer caller"),
    (b"Accept-Encoding", b"gzip, br"),
    (b"Content-Length", b"7"),
    (b"Content-Type", b"application/json"),
    (b"X-Empty", b""),
)


def test_a_requests_headers_pass_in_order_and_case() -> None:
    sent = to_upstream(REQUEST, PLAIN, identity=False)
    assert sent == [pair for pair in REQUEST if pair[0] not in (b"Host", b"Content-Length")]


@pytest.mark.parametrize(
    "name",
    [
        b"Connection", b"keep-alive", b"Proxy-Connection", b"Proxy-Authorization", b"PROXY-AUTHENTICATE", b"TE", b"Trailer",
        b"Transfer-Encoding", b"Upgrade", b"Expect", b"host", b"content-length", b"x-trueclock-tags", b"X-TrueClock-Anything",
    ],
)  # fmt: skip
def test_headers_of_the_connection_and_our_own_stay_here(name: bytes) -> None:
    assert to_upstream(((name, b"v"), (b"A", b"b")), PLAIN, identity=False) == [(b"A", b"b")]


@pytest.mark.parametrize(
    ("connection", "left"),
    [
        ([b"close"], [b"X-One", b"X-Two"]),
        ([b"X-One"], [b"X-Two"]),
        ([b"keep-alive, x-one ,X-TWO"], []),
        ([b"x-one", b"close, x-two"], []),
        ([b""], [b"X-One", b"X-Two"]),
    ],
)
def test_what_connection_names_goes_no_further(connection: list[bytes], left: list[bytes]) -> None:
    headers = [*((b"connection", value) for value in connection), (b"X-One", b"1"), (b"X-Two", b"2")]
    assert [name for name, _ in to_upstream(headers, PLAIN, identity=False)] == left
    assert [name for name, _ in to_client(headers, plain=False, resized=False)] == left


def test_the_configured_key_and_headers_take_the_callers_place() -> None:
    headers = (*REQUEST, (b"openai-organization", b"theirs"))
    sent = to_upstream(headers, KEYED, identity=False)
    assert [pair for pair in sent if pair[0].lower() == b"authorization"] == [(b"Authorization", b"Bearer sk-own")]
    assert [pair for pair in sent if pair[0].lower() == b"openai-organization"] == [(b"OpenAI-Organization", b"org")]


def test_identity_is_asked_of_the_upstream_when_the_stream_is_to_be_changed() -> None:
    sent = to_upstream(REQUEST, PLAIN, identity=True)
    assert [pair for pair in sent if pair[0].lower() == b"accept-encoding"] == [(b"Accept-Encoding", b"identity")]


REPLY = (
    (b"X-B", b"1"),
    (b"Content-Encoding", b"gzip"),
    (b"content-length", b"9"),
    (b"Set-Cookie", b"a"),
    (b"Set-Cookie", b"\xff"),
)


@pytest.mark.parametrize(
    ("options", "missing"),
    [
        ({"plain": False, "resized": False}, set()),
        ({"plain": False, "resized": True}, {b"content-length"}),
        ({"plain": True, "resized": False}, {b"content-length", b"Content-Encoding"}),
    ],
)
def test_a_replys_headers_pass_in_order_and_case(options: dict[str, bool], missing: set[bytes]) -> None:
    assert to_client(REPLY, **options) == [pair for pair in REPLY if pair[0] not in missing]


def test_hop_by_hop_headers_of_a_reply_stay_here() -> None:
    headers = (
        (b"Connection", b"keep-alive"),
        (b"Keep-Alive", b"timeout=5"),
        (b"Transfer-Encoding", b"chunked"),
        (b"A", b"b"),
    )
    assert to_client(headers, plain=False, resized=False) == [(b"A", b"b")]


# --- callers


def headers_of(**named: str) -> CIMultiDictProxy[str]:
    return CIMultiDictProxy(CIMultiDict({name.replace("_", "-"): value for name, value in named.items()}))


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": f"Bearer {KEY}"},
        {"authorization": f"bearer {KEY}"},
        {"Authorization": f"BEARER   {KEY} "},
        {"Authorization": KEY},
        {"x_api_key": KEY},
        {"api_key": KEY},
        {"x_goog_api_key": KEY},
    ],
)
def test_a_caller_is_the_same_however_the_key_is_sent(headers: dict[str, str]) -> None:
    callers = Callers(b"salt", {})
    name = callers.name(headers_of(**headers))
    assert name == callers.name(headers_of(Authorization=f"Bearer {KEY}"))
    assert name is not None
    assert len(name) == 18
    assert name.startswith("c_")
    assert KEY not in name
    assert Callers(b"salt", {KEY: "team-a"}).name(headers_of(**headers)) == "team-a"


def test_hashes_differ_by_key_and_by_salt() -> None:
    names = {
        Callers(salt, {}).name(headers_of(Authorization=f"Bearer {key}")) for salt in (b"a", b"b") for key in ("k", "l")
    }
    assert len(names) == 4


@pytest.mark.parametrize("headers", [{}, {"Authorization": ""}, {"Cookie": KEY}])
def test_without_a_key_there_is_no_caller(headers: dict[str, str]) -> None:
    assert Callers(b"salt", {}).name(headers_of(**headers)) is None


def test_a_key_that_is_no_text_has_a_name_too() -> None:
    assert Callers(b"salt", {}).name(headers_of(Authorization="Bearer \udcff")) is not None


# --- labels


@pytest.mark.parametrize(
    ("value", "tags"),
    [
        ("a", ("a",)),
        ("a,b=c", ("a", "b=c")),
        (" a , ,b ,", ("a", "b")),
        (",,,", ()),
        ("", ()),
        ("x" * 500, ("x" * 128,)),
        (",".join(map(str, range(100))), tuple(map(str, range(32)))),
        ("\udcff", ("?",)),
        ("é", ("é",)),
    ],
)
def test_tags(value: str, tags: tuple[str, ...]) -> None:
    assert labels_of(headers_of(x_trueclock_tags=value), Callers(b"s", {})).tags == tags


def test_problem_and_strategy_are_bounded() -> None:
    labels = labels_of(headers_of(x_trueclock_problem="p" * 600, X_TrueClock_Strategy="s"), Callers(b"s", {}))
    assert (labels.problem, labels.strategy, labels.tags, labels.caller) == (fitting_name("p" * 600), "s", (), None)
    outcome = decode_outcome(f'{{"problem": "{"p" * 600}", "correct": true}}', 0.0)
    assert outcome.problem == labels.problem, "an outcome of that name meets the request"


# --- salt


def test_the_salt_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    salt = load_salt(tmp_path)
    assert len(salt) == 32
    assert load_salt(tmp_path) == salt
    assert stat.S_IMODE((tmp_path / "salt").stat().st_mode) == 0o600
    (tmp_path / "other").mkdir()
    assert load_salt(tmp_path / "other") != salt


@pytest.mark.parametrize("broken", [b"", b"short"])
def test_a_salt_that_was_cut_short_is_made_anew(tmp_path: Path, broken: bytes) -> None:
    (tmp_path / "salt").write_bytes(broken)
    salt = load_salt(tmp_path)
    assert len(salt) == 32
    assert load_salt(tmp_path) == salt


def _load(place: tuple[Path, Any]) -> bytes:
    directory, barrier = place
    barrier.wait()
    return load_salt(directory)


def test_of_creators_that_start_together_one_makes_it(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager, context.Pool(4) as pool:
        for attempt in range(5):
            directory = tmp_path / str(attempt)
            directory.mkdir()
            barrier = manager.Barrier(4)
            assert len(set(pool.map(_load, [(directory, barrier)] * 4, chunksize=1))) == 1
