import importlib.util
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config import Config, ConfigError, Timeouts, default_config, load_config
from gateway.providers import DIALECT, TRANSLATED, split_model
from stream.coefficients import load_tables

SECRET = "sk-very-secret"


def load(tmp_path: Path, text: str) -> Config:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    return load_config(path)


def failure(tmp_path: Path, text: str) -> str:
    """The error of a file, without the folder it is in."""
    with pytest.raises(ConfigError) as raised:
        load(tmp_path, text)
    message = str(raised.value)
    assert "\n" not in message
    assert SECRET not in message
    return message.replace(f"{tmp_path}/", "")


def entry(model: str, **params: Any) -> str:
    """A file with one entry, named `m`."""
    more = "".join(f"\n      {key}: {value}" for key, value in params.items())
    return f"model_list:\n  - model_name: m\n    litellm_params:\n      model: {model}{more}\n"


def with_litellm(monkeypatch: pytest.MonkeyPatch, *, there: bool) -> None:
    """Make litellm look installed or not, whatever this environment has."""
    found = importlib.util.find_spec("json") if there else None
    monkeypatch.setattr("importlib.util.find_spec", lambda name: found if name == "litellm" else None)


# --- where bytes go


TARGETS = [
    ("https://api.openai.com", "/v1/chat/completions", "https://api.openai.com/v1/chat/completions"),
    ("https://api.openai.com/", "/v1/models", "https://api.openai.com/v1/models"),
    ("https://api.openai.com/v1", "/v1/models?limit=2", "https://api.openai.com/v1/models?limit=2"),
    ("http://h:8000/v1/", "/v1/files/a%2Fb", "http://h:8000/v1/files/a%2Fb"),
    ("http://h:8000", "/v1/../x/./y//z", "http://h:8000/v1/../x/./y//z"),
    ("https://api.groq.com/openai/v1", "/v1/models", "https://api.groq.com/openai/v1/models"),
    ("https://h/v1beta/openai", "/v1/chat/completions", "https://h/v1beta/openai/chat/completions"),
    ("https://h/v1beta/openai/", "/v1?x=1", "https://h/v1beta/openai?x=1"),
    ("https://h/v1beta/openai", "/v1", "https://h/v1beta/openai"),
    ("https://h/v1beta/openai", "/v10/models", "https://h/v1beta/openai/v10/models"),
    ("https://h/api", "/other", "https://h/api/other"),
    ("http://h", "/", "http://h/"),
    ("http://h", "@evil.example/v1", "http://h/@evil.example/v1"),
    ("http://h", ":81/v1", "http://h/:81/v1"),
    ("http://[::1]:8000/v1", "/v1/models", "http://[::1]:8000/v1/models"),
    ("https://api.perplexity.ai", "/v1/chat/completions", "https://api.perplexity.ai/chat/completions"),
    ("https://models.inference.ai.azure.com", "/v1/embeddings", "https://models.inference.ai.azure.com/embeddings"),
]


@pytest.mark.parametrize(("base", "path", "target"), TARGETS)
def test_target(base: str, path: str, target: str) -> None:
    upstream = default_config(base).default
    assert upstream is not None
    assert upstream.target(path) == target


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1))
def test_a_path_is_passed_on_untouched(rest: str) -> None:
    upstream = default_config("https://host.example/v1").default
    assert upstream is not None
    assert upstream.target(f"/{rest}") == f"https://host.example/{rest}"


@pytest.mark.parametrize(
    ("url", "name", "provider"),
    [
        ("https://api.openai.com/v1", "api.openai.com", "openai"),
        ("https://api.openai.com:443", "api.openai.com", "openai"),
        ("http://LOCALHOST:8000", "localhost:8000", "openai"),
        ("http://h:80", "h", "openai"),
        ("https://h:80", "h:80", "openai"),
        ("https://api.mistral.ai", "api.mistral.ai", "mistral_ai"),
        ("http://[::1]:9", "[::1]:9", "openai"),
    ],
)
def test_an_upstream_is_named_by_its_host(url: str, name: str, provider: str) -> None:
    upstream = default_config(url).default
    assert upstream is not None
    assert (upstream.name, upstream.provider, upstream.api_key) == (name, provider, None)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("localhost:8000", "'localhost:8000' does not begin with http:// or https://"),
        ("api.openai.com", "does not begin with http:// or https://"),
        ("ftp://h", "does not begin with http:// or https://"),
        ("http://", "has no host"),
        ("http:///v1", "has no host"),
        ("http://h:99999", "its host or port is malformed"),
        ("http://h:0", "no valid port"),
        ("http://[::1", "its host or port is malformed"),
        ("http://h/v1?key=1", "no query (?)"),
        ("http://h/v1#part", "no fragment (#)"),
        (f"http://user:{SECRET}@h/v1", "put the key into api_key"),
        ("http://h ost", "no spaces"),
        ("http://h/\r\nX: y", "no spaces, control characters"),
        ("http://h\u00f6st", "beyond ASCII"),
        ("https://h/v1/chat/completions", "ends before /chat/completions"),
    ],
)
def test_what_is_no_base_url(url: str, says: str) -> None:
    with pytest.raises(ConfigError) as raised:
        default_config(url)
    assert says in str(raised.value)
    assert SECRET not in str(raised.value)


# --- the model_list


ENTRIES = [
    ("openai/gpt-4o", {}, "https://api.openai.com/v1/x", "openai", "gpt-4o"),
    ("gpt-4o", {}, "https://api.openai.com/v1/x", "openai", "gpt-4o"),
    ("ft:gpt-4o-mini:org::id", {}, "https://api.openai.com/v1/x", "openai", "ft:gpt-4o-mini:org::id"),
    ("openai/org/name", {"api_base": "http://h:1"}, "http://h:1/v1/x", "openai", "org/name"),
    ("hosted_vllm/org/name", {"api_base": "http://h:1/v1"}, "http://h:1/v1/x", "vllm", "org/name"),
    ("lm_studio/q", {"base_url": "http://h:1/v1/"}, "http://h:1/v1/x", "lm_studio", "q"),
    ("llamafile/q", {}, "http://127.0.0.1:8080/v1/x", "llamafile", "q"),
    ("groq/llama-3.1-8b", {}, "https://api.groq.com/openai/v1/x", "groq", "llama-3.1-8b"),
    ("mistral/small", {}, "https://api.mistral.ai/v1/x", "mistral_ai", "small"),
    ("xai/grok", {}, "https://api.x.ai/v1/x", "x_ai", "grok"),
    ("deepseek/chat", {}, "https://api.deepseek.com/beta/x", "deepseek", "chat"),
    ("perplexity/sonar", {}, "https://api.perplexity.ai/x", "perplexity", "sonar"),
    ("deepinfra/o/m", {}, "https://api.deepinfra.com/v1/openai/x", "deepinfra", "o/m"),
    ("openrouter/o/m", {}, "https://openrouter.ai/api/v1/x", "openrouter", "o/m"),
    ("fireworks_ai/m", {}, "https://api.fireworks.ai/inference/v1/x", "fireworks_ai", "accounts/fireworks/models/m"),
    ("fireworks_ai/accounts/a/m", {}, "https://api.fireworks.ai/inference/v1/x", "fireworks_ai", "accounts/a/m"),
    ("org/m", {"custom_llm_provider": "openai", "api_base": "http://h"}, "http://h/v1/x", "openai", "org/m"),
]


@pytest.mark.parametrize(("model", "params", "target", "provider", "asked"), ENTRIES)
def test_an_entry_of_openais_dialect(
    tmp_path: Path, model: str, params: dict[str, str], target: str, provider: str, asked: str
) -> None:
    config = load(tmp_path, entry(model, **params))
    route = config.route("m")
    assert route is not None
    assert route.upstream.target("/v1/x") == target
    assert (route.upstream.provider, route.model, route.upstream.transport) == (provider, asked, "bytes")
    assert (config.default, config.route("other"), config.warnings) == (None, None, ())


def test_what_an_entry_gives_its_upstream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_KEY", SECRET)
    headers = "{X-Team: blue, X-Key: 'Bearer os.environ/A_KEY'}"
    text = entry("openai/gpt-4o", api_key="os.environ/A_KEY", organization="org-1", timeout=30, extra_headers=headers)
    route = load(tmp_path, text).route("m")
    assert route is not None
    assert route.upstream.api_key == SECRET
    assert route.upstream.headers == (
        ("X-Team", "blue"),
        ("X-Key", f"Bearer {SECRET}"),
        ("OpenAI-Organization", "org-1"),
    )
    assert route.upstream.timeouts == Timeouts(connect=10.0, first_byte=30.0, total=30.0)
    assert SECRET not in repr(load(tmp_path, text))


def test_parameters_that_cannot_be_applied_to_bytes_are_a_warning(tmp_path: Path) -> None:
    text = entry("openai/gpt-4o", temperature=0.2, rpm=100, api_key="null")
    (warning,) = load(tmp_path, text).warnings
    assert warning.endswith(
        "config.yaml:2: model_list[0] 'm': litellm_params temperature, rpm: ignored, requests go out as the client sent them"
    )


def test_litellms_own_sections_are_a_warning_each(tmp_path: Path) -> None:
    text = (
        "litellm_settings:\n  drop_params: true\ngeneral_settings: {master_key: os.environ/NOT_SET}\n"
        "trueclock: {upstream: 'http://h'}\n"
    )
    lines = [warning.replace(f"{tmp_path}/", "") for warning in load(tmp_path, text).warnings]
    assert lines == [
        "config.yaml:1: litellm_settings: a setting of litellm's own, ignored",
        "config.yaml:3: general_settings: a setting of litellm's own, ignored",
    ]


MANY = """
model_list:
  - {model_name: a, litellm_params: {model: openai/a1, api_key: k}}
  - {model_name: "*", litellm_params: {model: "openai/*", api_key: k}}
  - {model_name: a, litellm_params: {model: hosted_vllm/a2, api_base: "http://h"}}
  - {model_name: "llama-*", litellm_params: {model: "groq/*"}}
  - {model_name: "llama-*-instruct", litellm_params: {model: "groq/meta/llama-*-it"}}
  - {model_name: fixed-*, litellm_params: {model: openai/one, api_key: k}}
"""


def test_names_then_the_longest_wildcard_then_the_default(tmp_path: Path) -> None:
    config = load(tmp_path, MANY)

    def goes(model: str | None) -> tuple[str, str | None]:
        route = config.route(model)
        assert route is not None
        return route.upstream.name, route.model

    assert [goes("a")[1] for _ in range(4)] == ["a1", "a2", "a1", "a2"]
    assert goes("llama-3-8b-instruct") == ("api.groq.com", "meta/llama-3-8b-it")
    assert goes("llama-3-8b") == ("api.groq.com", "3-8b")
    assert goes("fixed-x") == ("api.openai.com", "one")
    assert goes("anything/else") == ("api.openai.com", "anything/else")
    assert goes(None) == ("api.openai.com", None)
    assert config.model_names == ("a", "llama-*-instruct", "llama-*", "fixed-*", "*")


def test_entries_of_one_base_and_key_share_their_upstream(tmp_path: Path) -> None:
    upstreams = load(tmp_path, MANY).upstreams
    assert [upstream.name for upstream in upstreams] == ["api.openai.com", "h", "api.groq.com"]


def test_an_upstream_of_ones_own_is_the_default(tmp_path: Path) -> None:
    config = load(tmp_path, entry("openai/gpt-4o") + "trueclock: {upstream: 'http://h:1/v1'}\n")
    for model in ("unknown", None):
        route = config.route(model)
        assert route is not None
        assert (route.upstream.name, route.model) == ("h:1", None)


def test_a_file_of_settings_alone_means_openai(tmp_path: Path) -> None:
    config = load(tmp_path, "trueclock: {body_limit_bytes: 7}\n")
    assert (config.default, config.implied) == (default_config().default, True)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        *((text, ": it names neither upstream nor model_list") for text in ("", "{}", "# nothing\n", "trueclock:\n")),
        ("litellm_settings: {drop_params: true}\n", ": it names neither upstream nor model_list"),
        ("model_list:\n", ":1: model_list: nothing is named"),
        ("trueclock: {stack: v100-megatron}\nmodel_list: []\n", ":2: model_list: nothing is named"),
        ("trueclock:\n  stack: v100-megatron\n  upstream:\n", ":3: trueclock.upstream: nothing is named"),
    ],
)
def test_what_may_be_the_beginning_of_a_file_does_not_send_keys_to_openai(
    tmp_path: Path, text: str, place: str
) -> None:
    advice = "to send everything to OpenAI, write upstream: https://api.openai.com below trueclock"
    assert failure(tmp_path, text) == f"config.yaml{place}: {advice}"


# --- other providers


def test_without_litellm_an_entry_that_needs_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_litellm(monkeypatch, there=False)
    text = entry("openai/gpt-4o") + "  - model_name: claude\n    litellm_params:\n      model: anthropic/claude-x\n"
    assert failure(tmp_path, text) == (
        "config.yaml:5: model_list[1] 'claude': anthropic/claude-x (line 7) goes through litellm, which is not "
        "installed; pip install -e '.[litellm]' in its checkout"
    )


@pytest.mark.parametrize(
    ("model", "litellms", "provider", "asked"),
    [
        ("anthropic/claude-x", "anthropic", "anthropic", "claude-x"),
        ("claude-x", "anthropic", "anthropic", "claude-x"),
        ("gemini/gemini-2.5-pro", "gemini", "gcp.gemini", "gemini-2.5-pro"),
        ("bedrock/converse/us.x", "bedrock", "aws.bedrock", "converse/us.x"),
        ("azure/deployment", "azure", "azure.ai.openai", "deployment"),
        ("ollama/llama3", "ollama", "ollama", "llama3"),
    ],
)
def test_with_litellm_an_entry_keeps_its_parameters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str, litellms: str, provider: str, asked: str
) -> None:
    with_litellm(monkeypatch, there=True)
    config = load(tmp_path, entry(model, api_key=SECRET, temperature=0.5, rpm=3, timeout=20))
    route = config.route("m")
    assert route is not None
    upstream = route.upstream
    assert (upstream.transport, upstream.name, upstream.provider, route.model) == ("litellm", litellms, provider, asked)
    assert upstream.params == {
        "model": model,
        "api_key": SECRET,
        "temperature": 0.5,
        "timeout": 20,
        "custom_llm_provider": litellms,
    }
    assert upstream.timeouts.total == 20
    assert SECRET not in repr(config)
    assert len(config.warnings) == 1
    assert "rpm" in config.warnings[0]
    assert config.route(None) is None


def test_no_provider_is_of_two_kinds() -> None:
    assert not DIALECT.keys() & TRANSLATED


@pytest.mark.parametrize("name", sorted(DIALECT))
def test_every_provider_has_a_usable_base_or_asks_for_one(tmp_path: Path, name: str) -> None:
    if DIALECT[name].base:
        assert load(tmp_path, entry(f"{name}/m")).route("m") is not None
    else:
        assert f"{name} has no default address: give api_base its URL" in failure(tmp_path, entry(f"{name}/m"))


@given(st.sampled_from(sorted(DIALECT.keys() | TRANSLATED)), st.text(min_size=1))
def test_a_known_provider_is_taken_off_a_model_once(provider: str, model: str) -> None:
    assert split_model(f"{provider}/{model}") == (provider, model)


# --- our own section


def test_our_own_section(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALICE", SECRET)
    (tmp_path / "t.json").write_text("{}")
    config = load(
        tmp_path,
        """
trueclock:
  upstream: https://api.groq.com/openai/v1
  timeouts: {connect_seconds: 2, first_byte_seconds: 30.5, total_seconds: 100}
  body_limit_bytes: 1_000_000
  retention: {days: 0.5, bytes: 1000000000}
  stack: v100-megatron
  tables: [t.json]
  aliases: {gpt-x: openai/davinci}
  assume: {gpt-4o: openai/curie}
  callers: {alice: os.environ/ALICE, 3.5: other}
""",
    )
    assert config.default is not None
    assert config.default.timeouts == Timeouts(2.0, 30.5, 100.0)
    assert (config.body_limit_bytes, config.retention_days, config.retention_bytes) == (1_000_000, 0.5, 1_000_000_000)
    assert (config.stack, config.tables, config.aliases) == (
        "v100-megatron",
        (tmp_path / "t.json",),
        {"gpt-x": "openai/davinci"},
    )
    assert config.assume == {"gpt-4o": "openai/curie"}
    assert config.callers == {SECRET: "alice", "other": "3.5"}
    assert SECRET not in repr(config)


# --- what is wrong, and where


LIST = "model_list:\n  - model_name: m\n    litellm_params:\n"
WRONG = [
    ("modellist: []", "config.yaml:1: modellist: unknown key (did you mean 'model_list'?)"),
    ("x: 1", "config.yaml:1: x: unknown key; known here: "),
    ("- a", "config.yaml:1: expected a mapping (key: value), found a list"),
    ("just text", "config.yaml:1: expected a mapping (key: value), found a text"),
    ("a: [1", "config.yaml:2: not valid YAML: "),
    ("a: *b", "config.yaml:1: not valid YAML: found undefined alias"),
    ("a: 1\n---\nb: 2", "config.yaml:2: not valid YAML: "),
    ("a: !!python/name:os.system x", "config.yaml:1: not valid YAML: could not determine a constructor"),
    ("a: !!int x", "config.yaml:1: a: a value that does not fit its YAML tag"),
    ("trueclock: &a {aliases: *a}", "config.yaml:1: trueclock.aliases: this YAML alias contains itself"),
    ("? [1]\n: 2", "config.yaml:1: a key must be a plain text"),
    ("model_list: []\nmodel_list: []", "config.yaml:2: the key 'model_list' is here twice (first on line 1)"),
    (LIST + "      model: a\n      model: b", "the key 'model' is here twice (first on line 4)"),
    ("model_list: {a: b}", "config.yaml:1: model_list: expected a list, found a mapping"),
    ("model_list:\n  - gpt-4o", "config.yaml:2: model_list[0]: expected a mapping (key: value), found a text"),
    ("model_list:\n  - litellm_params: {model: a}", "config.yaml:2: model_list[0]: model_name is missing"),
    ("model_list:\n  - model_name: a", "config.yaml:2: model_list[0]: litellm_params is missing"),
    (LIST + "      api_key: k", "config.yaml:3: model_list[0].litellm_params: model is missing"),
    (LIST.replace("model_name", "modelname"), "unknown key (did you mean 'model_name'?)"),
    ("model_list:\n  - {model_name: 4, litellm_params: {model: a}}", "expected a text (put it in quotes), found a"),
    (entry("opnai/gpt-4o"), "the provider 'opnai' is not known (did you mean 'openai'?); for a server of OpenAI's"),
    (entry("org/m"), "for a server of OpenAI's dialect write 'openai/org/m' and its api_base"),
    (entry("hosted_vllm/m"), "config.yaml:2: model_list[0] 'm': hosted_vllm has no default address: give api_base"),
    (entry("openai/m", api_base="h:8000"), "config.yaml:5: model_list[0].litellm_params.api_base: 'h:8000' does not"),
    (entry("openai/m", api_bse="http://h"), "config.yaml:5: model_list[0].litellm_params.api_bse: unknown parameter"),
    (entry("openai/m", api_key="os.environ/NOT_SET_X"), "config.yaml:5: model_list[0].litellm_params.api_key: the env"),
    (entry("openai/m", api_key="os.environ/NOT_SET_X"), "variable NOT_SET_X is not set: set it"),
    (entry("openai/m", timeout="soon"), "config.yaml:5: model_list[0].litellm_params.timeout: expected a number"),
    (entry("openai/m", timeout=0), "expected a number of at least 0.001"),
    (entry("openai/m", timeout=".inf"), "expected a number of at least 0.001"),
    (entry("openai/m", timeout="true"), "expected a number, found true or false"),
    (entry("openai/m", extra_headers="{Host: h}"), "extra_headers.Host: this header belongs to the connection"),
    (entry("openai/m", extra_headers="{'a b': h}"), "not a header name"),
    (entry("openai/m", extra_headers=r'{a: "b\r\nc: d"}'), "a header's value is one line of ASCII"),
    (entry("openai/m", api_key=r'"sk-1\nEvil: 2"'), "litellm_params.api_key: a header's value is one line of ASCII"),
    (entry("openai/m", organization=r'"o\r\nEvil: 2"'), "organization: a header's value is one line of ASCII"),
    (entry("openai/m", api_key='"sk-é"'), "api_key: a header's value is one line of ASCII"),
    (entry('"openai/*"'), "config.yaml:4: model_list[0] 'm': the model has a * but the model_name has none"),
    ("model_list:\n  - {model_name: '*a*', litellm_params: {model: b}}", "only one * is understood"),
    (f"trueclock: {{upstream: 'http://u:{SECRET}@h'}}", "config.yaml:1: trueclock.upstream: a URL with user or pass"),
    ("trueclock:\n  upstreams: http://h", "config.yaml:2: trueclock.upstreams: unknown key (did you mean 'upstream'?)"),
    ("trueclock:\n  timeouts: {conect_seconds: 1}", "unknown key (did you mean 'connect_seconds'?)"),
    ("trueclock:\n  body_limit_bytes: 1.5", "config.yaml:2: trueclock.body_limit_bytes: expected a whole number"),
    ("trueclock:\n  body_limit_bytes: 64MB", "trueclock.body_limit_bytes: expected a number, found a text"),
    ("trueclock:\n  retention: {days: -1}", "trueclock.retention.days: expected a number of at least 0.001"),
    ("trueclock:\n  tables: [no.json]", "config.yaml:2: trueclock.tables[0]: no such file: no.json"),
    ("trueclock:\n  tables: no.json", "trueclock.tables: expected a list, found a text"),
    (f"trueclock:\n  callers: {{a: {SECRET}, b: {SECRET}}}", "trueclock.callers.b: the same key as 'a''s"),
    ("trueclock:\n  callers: {a: ''}", "trueclock.callers.a: the key is empty"),
    ("trueclock:\n  assume: gpt-4o", "config.yaml:2: trueclock.assume: expected a mapping (key: value), found a text"),
    ("trueclock:\n  assume: {gpt-4o: 4}", "trueclock.assume.gpt-4o: expected a text (put it in quotes), found a whole"),
    ("trueclock:\n  asume: {}", "config.yaml:2: trueclock.asume: unknown key (did you mean 'assume'?)"),
]


@pytest.mark.parametrize(("text", "says"), WRONG)
def test_an_error_says_where_and_what(tmp_path: Path, text: str, says: str) -> None:
    assert says in failure(tmp_path, text)


def test_an_empty_environment_variable_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMPTY_X", "")
    assert "variable EMPTY_X is empty" in failure(tmp_path, entry("openai/m", api_key="os.environ/EMPTY_X"))


def test_a_number_may_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIMIT_X", "2.5")
    route = load(tmp_path, entry("openai/m", timeout="os.environ/LIMIT_X")).route("m")
    assert route is not None
    assert route.upstream.timeouts.total == 2.5
    monkeypatch.setenv("LIMIT_X", SECRET)
    assert "timeout: expected a number" in failure(tmp_path, entry("openai/m", timeout="os.environ/LIMIT_X"))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"a: \xff\xfe")
    for path, says in ((tmp_path / "none.yaml", "No such file"), (tmp_path, "directory"), (binary, "not UTF-8")):
        with pytest.raises(ConfigError, match=says):
            load_config(path)


def test_anchors_and_merge_keys_are_yaml_too(tmp_path: Path) -> None:
    text = """
model_list:
  - model_name: a
    litellm_params: &shared {model: openai/a, api_key: k, organization: o}
  - model_name: b
    litellm_params: {<<: *shared, model: openai/b}
"""
    route = load(tmp_path, text).route("b")
    assert route is not None
    assert (route.model, route.upstream.api_key) == ("b", "k")


@given(st.text(st.characters(blacklist_categories=["Cs"]), max_size=200))
def test_any_text_is_a_configuration_or_one_clear_line(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_text(text, encoding="utf-8")
    try:
        load_config(path)
        said = f"{path}: fine"
    except ConfigError as error:
        said = str(error)
    assert said.startswith(str(path))
    assert "\n" not in said


def test_the_documented_example_can_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    document = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text()
    example = document.partition("```yaml\n")[2].partition("```")[0]
    with_litellm(monkeypatch, there=True)
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GROQ_API_KEY", "CHECKOUT_KEY"):
        monkeypatch.setenv(name, f"value of {name}")
    (tmp_path / "my-tables.json").write_text("{}")
    config = load(tmp_path, example)
    assert config.model_names == ("gpt-4o", "llama", "claude", "groq/*")
    assert config.warnings == ()
    defaults = Config(default=config.default)
    for limit in ("body_limit_bytes", "retention_days", "retention_bytes"):
        assert getattr(config, limit) == getattr(defaults, limit)
    assert config.default == default_config().default
    for provider, known in DIALECT.items():
        assert f"`{provider}`" in document, f"{provider} ({known.base}) is not documented"


def test_the_documented_assumptions_are_of_shipped_rows(tmp_path: Path) -> None:
    document = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text()
    example = document.split("```yaml\n")[2].partition("```")[0]
    assume = load(tmp_path, example).assume
    assert set(assume) == {"gpt-4o", "gpt-4o-mini"}
    assert load_tables(assume=assume).assume == assume


def test_the_line_end_of_a_mounted_secret_is_left_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_KEY", SECRET + "\n")
    route = load(tmp_path, entry("openai/gpt-4o", api_key="os.environ/A_KEY")).route("m")
    assert route is not None
    assert route.upstream.api_key == SECRET
