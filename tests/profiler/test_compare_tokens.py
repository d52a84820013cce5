"""`profiler compare --text`: by hand with tokenizers of known length, real ones, the Hugging Face cache, wrong use."""

import csv
import importlib.util
import io
import sys
from pathlib import Path
from types import ModuleType

import pytest

from profiler.compare_tokens import Encoded, record, weigh
from profiler.tokenizers import TokenizerError, cached_tokenizers, counter
from stream.coefficients import load_tables
from tests.profiler.comparing import run, told

TABLES = load_tables()
STACK = "h100-predicted"
TEXT = "Wie lange hätte das dauern sollen? " * 400


class Fixed:
    """A tokenizer whose tokens all have as many characters as its file says."""

    def __init__(self, characters: int) -> None:
        self.characters, self.ids, self.whole = characters, [], False

    @classmethod
    def from_file(cls, path: str) -> "Fixed":
        text = Path(path).read_text()
        if not text.isdigit():
            raise Exception("Model\nmissing")  # noqa: TRY002 - as the library does
        return cls(int(text))

    def no_truncation(self) -> None:
        self.whole = True

    def no_padding(self) -> None:
        pass

    def encode(self, text: str, *, add_special_tokens: bool) -> "Fixed":
        assert self.whole
        assert not add_special_tokens
        self.ids = list(range(-(-len(text) // self.characters)))
        return self


@pytest.fixture
def fixed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder with tokenizers of 4 and 2 characters a token, and a text; no cache but its own."""
    module = ModuleType("tokenizers")
    module.Tokenizer = Fixed  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tokenizers", module)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.chdir(tmp_path)
    for name, content in (("four", "4"), ("two", "2")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "tokenizer.json").write_text(content)
    (tmp_path / "t.txt").write_text("x" * 8000)
    return tmp_path


def cached(folder: Path, repository: str, commits: dict[str, str], main: str | None = None) -> None:
    """A repository of the Hugging Face cache, its tokenizers by commit."""
    place = folder / "hub" / f"models--{repository.replace('/', '--')}"
    for commit, content in commits.items():
        (place / "snapshots" / commit).mkdir(parents=True)
        (place / "snapshots" / commit / "tokenizer.json").write_text(content)
    if main is not None:
        (place / "refs").mkdir()
        (place / "refs" / "main").write_text(f"{main}\n")


# --- numbers


def test_a_kilobyte_by_hand() -> None:
    row = TABLES.row("a100-megatron", "davinci")
    assert row is not None
    runtime = TABLES.runtime("a100-megatron", row)
    [found] = weigh(TABLES, ["a100-megatron"], {"davinci": Encoded("t", 8000, 2000)}, 2000)
    each = record(found)
    assert (each["prompt_tokens"], each["output_tokens"], each["tokens_per_byte"]) == (500, 500, 0.25)
    assert each["read_seconds_per_kilobyte"] == pytest.approx(runtime(500, 1) / 2)
    assert each["written_seconds_per_kilobyte"] == pytest.approx((runtime(500, 500) - runtime(500, 1)) / 2)
    assert each["seconds_per_kilobyte"] == pytest.approx(runtime(500, 500) / 2)
    assert each["dollars_per_kilobyte"] == pytest.approx(runtime(500, 500) / 2 * 8 * 4.096 / 3600)
    costs = TABLES.costs("a100-megatron", row)
    assert costs is not None
    if row.flops is not None:
        whole, first = costs.flops(500, 500, 1), costs.flops(500, 1, 1)
        assert whole is not None
        assert first is not None
        assert each["read_flops_per_kilobyte"] == pytest.approx(first / 2)
        assert each["written_flops_per_kilobyte"] == pytest.approx((whole - first) / 2)


def test_of_two_alike_the_one_with_the_larger_tokens_takes_less() -> None:
    texts = {"llama-3.1-8b": Encoded("t", 8000, 2000), "meta-llama/llama-3.1-8b": Encoded("u", 8000, 4000)}
    large, small = map(record, weigh(TABLES, [STACK], texts, 2000))
    assert (large["model"], large["runtime_rank"], small["runtime_rank"]) == ("llama-3.1-8b", 1, 2)
    for name in ("read", "written"):
        assert large[f"{name}_seconds_per_kilobyte"] < small[f"{name}_seconds_per_kilobyte"]
    assert large["low_seconds_per_kilobyte"] < large["seconds_per_kilobyte"] < large["high_seconds_per_kilobyte"]


def test_a_text_shorter_than_a_piece_is_the_piece() -> None:
    [short] = weigh(TABLES, [STACK], {"llama-3.1-8b": Encoded("t", 100, 25)}, 2000)
    assert (short.piece, short.tokens) == (100, 25)
    [tiny] = weigh(TABLES, [STACK], {"llama-3.1-8b": Encoded("t", 100, 25)}, 1)
    assert (tiny.piece, tiny.tokens) == (1, 1), "a prompt has a token at least"


def test_every_form_says_the_same(fixed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--text", "t.txt", "--tokenizer", "llama-3.1-8b=four", "--tokenizer", "davinci=two/tokenizer.json"]
    found = told(capsys, *options)
    assert (found["text"], found["bytes"], found["piece_bytes"]) == ("t.txt", 8000, 2000)
    assert list(found["stacks"]) == ["a100-megatron", "v100-megatron", STACK]
    rows = found["rows"]
    assert [(row["model"], row["stack"], row["tokens_per_byte"], row["tokenizer"]) for row in rows] == [
        ("davinci", "a100-megatron", 0.5, "two/tokenizer.json"),
        ("davinci", "v100-megatron", 0.5, "two/tokenizer.json"),
        ("llama-3.1-8b", STACK, 0.25, "four"),
    ]
    _, out, _ = run(capsys, "--csv", *options)
    [line, *_] = csv.DictReader(io.StringIO(out))
    assert {name: line[name] for name in rows[0]} == {
        name: "" if value is None else str(value) for name, value in rows[0].items()
    }
    _, out, _ = run(capsys, *options)
    lines = out.splitlines()
    assert lines[0] == "t.txt: 8,000 bytes; for a kilobyte of it, in prompts and replies of 2,000 bytes"
    assert lines[2].startswith("a100-megatron   bytes/token   read: s")
    assert lines[3].split()[:3] == ["davinci", "2.00", f"{rows[0]['read_seconds_per_kilobyte']:.3f}"]
    assert "h100-predicted: predicted, not measured" in lines


def test_order_is_by_dollars_if_asked(fixed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--text", "t.txt", "--stack", STACK, "--dollars-per-hour", f"{STACK}=2"]
    given = ["--tokenizer", "llama-3.1-405b=four", "--tokenizer", "gemma-2-9b-it=two", "--tokenizer", "qwen3-0.6b=four"]
    rows = told(capsys, *options, *given, "--sort", "dollars", "--piece", "4000")["rows"]
    assert [row["dollars_rank"] for row in rows] == [1, 2, 3]
    assert {row["model"]: row["prompt_tokens"] for row in rows}["gemma-2-9b-it"] == 2000


# --- tokenizers at hand


def test_those_in_the_cache_are_found_by_the_rows_of_their_names(
    fixed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cached(fixed, "Qwen/Qwen3-8B", {"aaa": "4", "bbb": "2"}, main="aaa")
    cached(fixed, "meta-llama/Llama-3.1-8B-Instruct", {"ccc": "2"})
    cached(fixed, "nobody/unknown", {"ddd": "2"})
    (fixed / "hub" / "models--google--gemma-3-4b-it" / "snapshots" / "eee").mkdir(parents=True)
    assert [name for name, _ in cached_tokenizers()] == [
        "Qwen/Qwen3-8B",
        "meta-llama/Llama-3.1-8B-Instruct",
        "nobody/unknown",
    ]
    rows = told(capsys, "--text", "t.txt")["rows"]
    assert {row["model"]: row["tokens_per_byte"] for row in rows} == {
        "qwen/qwen3-8b": 0.25,
        "meta-llama/llama-3.1-8b": 0.5,
    }
    assert [row["tokenizer"] for row in rows] == ["Qwen/Qwen3-8B", "meta-llama/Llama-3.1-8B-Instruct"], "no paths"
    [row] = told(capsys, "--text", "t.txt", "--model", "qwen3-8b")["rows"]
    assert (row["model"], row["tokens_per_byte"]) == ("qwen3-8b", 0.25)
    rows = told(capsys, "--text", "t.txt", "--tokenizer", "qwen3-8b=two")["rows"]
    assert {row["model"]: row["tokens_per_byte"] for row in rows} == {"qwen3-8b": 0.5, "meta-llama/llama-3.1-8b": 0.5}
    [row] = told(capsys, "--text", "t.txt", "--stack", "a100-megatron", "--tokenizer", "davinci=four")["rows"]
    assert row["model"] == "davinci", "the cached ones have no row there"


def test_the_cache_lies_where_the_hub_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cached(tmp_path, "Qwen/Qwen3-8B", {"aaa": "4"})
    for name, value in (("HF_HUB_CACHE", tmp_path / "hub"), ("HF_HOME", tmp_path), ("HF_HOME", tmp_path / "no")):
        monkeypatch.delenv("HF_HUB_CACHE", raising=False)
        monkeypatch.setenv(name, str(value))
        assert len(list(cached_tokenizers())) == (value != tmp_path / "no")
    monkeypatch.delenv("HF_HOME")
    (tmp_path / "huggingface").mkdir()
    (tmp_path / "hub").rename(tmp_path / "huggingface" / "hub")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert [name for name, _ in cached_tokenizers()] == ["Qwen/Qwen3-8B"]


def test_a_directory_of_the_cache_is_a_tokenizer(fixed: Path) -> None:
    cached(fixed, "Qwen/Qwen3-8B", {"aaa": "4", "bbb": "2"}, main="aaa")
    place = fixed / "hub" / "models--Qwen--Qwen3-8B"
    assert counter(str(place))("x" * 8) == 2
    assert counter(str(place / "snapshots" / "bbb"))("x" * 8) == 4


def test_real_tokenizers_count_whole_texts(tmp_path: Path) -> None:
    """Of a file that cuts texts to three tokens and fills them up to eight, all tokens are counted."""
    tokenizers = pytest.importorskip("tokenizers", reason="tokenizers is not installed: pip install -e '.[litellm]'")
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([TEXT], trainer)
    whole = len(tokenizer.encode(TEXT).ids)
    tokenizer.enable_truncation(3)
    tokenizer.enable_padding(length=8)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    assert counter(str(tmp_path))(TEXT) == whole
    assert 3 < whole < len(TEXT.encode())
    assert counter(str(tmp_path))("ä") == 2
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(TokenizerError, match=r"bad\.json: no tokenizer that the library tokenizers can read: \S"):
        counter(str(tmp_path / "bad.json"))


def test_an_encoding_of_tiktoken_counts_as_tiktoken_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """litellm ships two of its files, so that nothing is fetched."""
    tiktoken = pytest.importorskip("tiktoken", reason="tiktoken is not installed: pip install -e '.[litellm]'")
    found = importlib.util.find_spec("litellm")
    if found is None or found.origin is None:
        pytest.skip("litellm is not installed: pip install -e '.[litellm]'")
    files = Path(found.origin).parent / "litellm_core_utils" / "tokenizers"
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(files))
    for name in ("cl100k_base", "o200k_base", "o200k_harmony"):
        assert counter(name)(TEXT) == len(tiktoken.get_encoding(name).encode(TEXT))


# --- wrong use

WRONG: dict[str, tuple[list[str], str]] = {
    "no tokenizer": ([], "no tokenizer at hand: give --tokenizer MODEL=PATH, a tokenizer.json or a directory that"),
    "none of a model": (["--model", "qwen3-8b"], "no tokenizer at hand for qwen3-8b: give --tokenizer qwen3-8b=PATH"),
    "unknown model": (["--tokenizer", "quen3-8b=four"], "unknown model 'quen3-8b': no table has it, did you mean "),
    "not a pair": (["--tokenizer", "four"], "--tokenizer four: expected MODEL=PATH, such as qwen3-8b=models/qwen3-8b"),
    "no path": (["--tokenizer", "qwen3-8b=x"], "x: no such file or directory, nor an encoding of tiktoken (cl100k_b"),
    "no file": (["--tokenizer", "qwen3-8b=empty"], "empty: holds no tokenizer.json"),
    "not one": (["--tokenizer", "qwen3-8b=t.txt"], "t.txt: no tokenizer that the library tokenizers can read: Model "),
    "not cached": (["--tokenizer", "qwen3-8b=o200k_base"], "o200k_base: its file is not in tiktoken's cache ("),
    "stack": (["--tokenizer", "qwen3-8b=four", "--stack", "x"], "unknown stack 'x': there are a100-megatron, "),
    "elsewhere": (
        ["--tokenizer", "qwen3-8b=four", "--stack", "a100-megatron"],
        "unknown model 'qwen3-8b' on a100-megatron, but h100-predicted has it: --stack h100-predicted",
    ),
    "no piece": (["--tokenizer", "qwen3-8b=four", "--piece", "0"], "--piece: expected bytes, 1 or more, found 0"),
    "with tokens": (["--prompt-tokens", "5"], "give either --text or --prompt-tokens, not both"),
    "with a trace": (["--trace", "t.csv"], "give either --text or --trace, not both"),
    "with a plot": (["--plot", "p.html"], "give either --text or --plot, not both"),
}


@pytest.mark.parametrize(("arguments", "says"), WRONG.values(), ids=WRONG)
def test_wrong_use_is_one_clear_line(
    fixed: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    says: str,
) -> None:
    (fixed / "empty").mkdir()
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(fixed / "empty"))
    pytest.importorskip("tiktoken", reason="tiktoken is not installed: pip install -e '.[dev]'")
    status, out, err = run(capsys, "--text", "t.txt", *arguments)
    assert (status, out) == (2, "")
    assert err.startswith(f"profiler compare: {says}")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "a.txt: No such file or directory"),
        (b"", "a.txt: is empty: there is nothing to read or write"),
        (b"ab\xff", "a.txt: byte 2: expected UTF-8 text"),
    ],
    ids=["none", "empty", "not UTF-8"],
)
def test_a_text_that_cannot_be_used(
    fixed: Path, capsys: pytest.CaptureFixture[str], content: bytes | None, says: str
) -> None:
    if content is not None:
        Path("a.txt").write_bytes(content)
    status, _, err = run(capsys, "--text", "a.txt", "--tokenizer", "qwen3-8b=four")
    assert (status, err) == (2, f"profiler compare: {says}\n")


def test_bytes_are_counted_as_utf_8_without_a_byte_order_mark(fixed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("a.txt").write_bytes("\ufeffäöü😀".encode())
    found = told(capsys, "--text", "a.txt", "--tokenizer", "qwen3-8b=four")
    assert (found["bytes"], found["rows"][0]["tokens_per_byte"]) == (10, 0.1)


def test_without_the_library_one_line_says_what_is_missing(
    fixed: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    monkeypatch.setitem(sys.modules, "tiktoken", None)
    for source, says in (
        ("four", "four/tokenizer.json: reading it needs the library tokenizers: pip install tokenizers"),
        ("o200k_base", "o200k_base: needs the library tiktoken: pip install tiktoken"),
    ):
        status, _, err = run(capsys, "--text", "t.txt", "--tokenizer", f"qwen3-8b={source}")
        assert (status, err) == (2, f"profiler compare: {says}\n")


@pytest.mark.parametrize("option", [["--piece", "5"], ["--tokenizer", "a=b"]])
def test_options_of_texts_need_a_text(capsys: pytest.CaptureFixture[str], option: list[str]) -> None:
    assert run(capsys, *option) == (2, "", f"profiler compare: {option[0]} is for --text FILE\n")
