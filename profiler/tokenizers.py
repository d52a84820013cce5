"""Tokenizers that are at hand: how many tokens a text is to a model. Nothing is fetched.

A tokenizer is a `tokenizer.json`, or a directory that holds one (a snapshot of the Hugging Face cache, or a repository
there); or an encoding of tiktoken whose file lies in tiktoken's cache. The libraries are imported when they are needed.
"""

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from stream.coefficients import Tables

__all__ = ["Counter", "TokenizerError", "cached_tokenizers", "called", "counter", "tokenizers_of"]

Counter = Callable[[str], int]
"""Tokens of a text, without those that mark its beginning or end."""

_FILE = "tokenizer.json"
_CACHED = "models--"
_ENCODINGS = {
    "cl100k_base": "9b5ad71b2ce5302211f9c61530b329a4922fc6a4",
    "o200k_base": "fb374d419588a4632f3f557e76b4b70aebbca790",
    "o200k_harmony": "fb374d419588a4632f3f557e76b4b70aebbca790",
}
"""The encodings of tiktoken and their files in its cache: asked for another, or without its file, it would fetch."""

_HOW = "give --tokenizer {}=PATH, a tokenizer.json or a directory that holds one"


class TokenizerError(ValueError):
    """A tokenizer that cannot be used. One line: which, why, and what to do."""


def counter(source: str) -> Counter:
    """The tokenizer at a path, or the encoding of that name; raise TokenizerError where it cannot be used."""
    path = Path(source)
    if path.exists():
        return _from_file(_file(path))
    if source in _ENCODINGS:
        return _from_encoding(source)
    known = ", ".join(_ENCODINGS)
    raise TokenizerError(f"{source}: no such file or directory, nor an encoding of tiktoken ({known})")


def tokenizers_of(tables: Tables, stacks: Sequence[str], models: Sequence[str], given: Sequence[str]) -> dict[str, str]:
    """The tokenizer of each model: those `given` as MODEL=PATH, and of `models` those that are cached.

    Without `models` they are all that are cached and have a row on one of the stacks. Raise TokenizerError for a model
    that no table has, or that has no tokenizer at hand, or where there are none.
    """
    own = dict(map(_given, given))
    rows = {_row(tables, model): source for model, source in own.items()}
    cached = {
        row.name: str(file)
        for name, file in cached_tokenizers()
        if (row := next(filter(None, (tables.row(stack, name) for stack in stacks)), None)) is not None
    }
    known = {**cached, **rows}
    missing = [model for model in models if _row(tables, model) not in known]
    if missing or not known:
        what = f" for {missing[0]}" if missing else ""
        raise TokenizerError(f"no tokenizer at hand{what}: {_HOW.format(missing[0] if missing else 'MODEL')}")
    others = models or [name for name in cached if name not in rows]
    return {**{model: known[_row(tables, model)] for model in others}, **own}


def _given(text: str) -> tuple[str, str]:
    model, _, source = text.partition("=")
    if not (model and source):
        raise TokenizerError(f"--tokenizer {text}: expected MODEL=PATH, such as qwen3-8b=models/qwen3-8b")
    return model, source


def _row(tables: Tables, model: str) -> str:
    """The name of the model's row, on whichever stack has one."""
    row = next(filter(None, (tables.row(stack, model) for stack in tables.stacks)), None)
    if row is None:
        near = " or ".join(tables.near(None, model))
        raise TokenizerError(f"unknown model {model!r}: no table has it{f', did you mean {near}?' if near else ''}")
    return row.name


def cached_tokenizers() -> Iterator[tuple[str, Path]]:
    """The repositories of the local Hugging Face cache that hold a tokenizer, as (name, its file)."""
    for folder in sorted(_hugging_face_cache().glob(f"{_CACHED}*--*")):
        file = _snapshot_file(folder)
        if file is not None:
            yield _repository(folder.name), file


def called(source: str) -> str:
    """What to call a tokenizer to others: a cached one by its repository, wherever that lies, else as it was given."""
    cached = next((each for each in Path(source).parts if each.startswith(_CACHED)), None)
    return source if cached is None else _repository(cached)


def _repository(folder: str) -> str:
    return folder.removeprefix(_CACHED).replace("--", "/")


def _hugging_face_cache() -> Path:
    """Where the Hugging Face hub's client keeps what it fetched, by the environment variables that it reads."""
    if hub := os.environ.get("HF_HUB_CACHE"):
        return Path(hub)
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("HF_HOME") or caches / "huggingface") / "hub"


def _file(path: Path) -> Path:
    if not path.is_dir():
        return path
    if (path / _FILE).is_file():
        return path / _FILE
    found = _snapshot_file(path)
    if found is None:
        raise TokenizerError(f"{path}: holds no {_FILE}")
    return found


def _snapshot_file(repository: Path) -> Path | None:
    """The tokenizer of a cached repository, of its main branch if that is there."""
    files = sorted(repository.glob(f"snapshots/*/{_FILE}"))
    main = repository / "refs" / "main"
    if main.is_file():
        commit = main.read_text(encoding="utf-8").strip()
        files.sort(key=lambda file: file.parent.name == commit)
    return files[-1] if files else None


def _from_file(file: Path) -> Counter:
    try:
        from tokenizers import Tokenizer
    except ImportError:
        raise TokenizerError(f"{file}: reading it needs the library tokenizers: pip install tokenizers") from None
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # noqa: BLE001 - the library raises nothing more particular
        said = " ".join(str(error).split())
        raise TokenizerError(f"{file}: no tokenizer that the library tokenizers can read: {said}") from None
    # A file may hold what its model was trained with: texts cut to so many tokens, or filled up to as many.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids)


def _from_encoding(name: str) -> Counter:
    try:
        import tiktoken
    except ImportError:
        raise TokenizerError(f"{name}: needs the library tiktoken: pip install tiktoken") from None
    own = os.environ.get("TIKTOKEN_CACHE_DIR") or os.environ.get("DATA_GYM_CACHE_DIR")
    file = Path(own or Path(tempfile.gettempdir(), "data-gym-cache"), _ENCODINGS[name])
    if not file.is_file():
        how = "use it once where there is a network, or set TIKTOKEN_CACHE_DIR"
        raise TokenizerError(f"{name}: its file is not in tiktoken's cache ({file}): {how}")
    encoding = tiktoken.get_encoding(name)
    return lambda text: len(encoding.encode_ordinary(text))
