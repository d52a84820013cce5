"""Reading samples: two forms of files, what is known of an architecture, and every way a file can be wrong."""

from pathlib import Path

import pytest

from profiler.samples import Measured, SamplesError, choose_hardware, read_samples

HEADER = "hardware,model,prompt_tokens,output_tokens,runtime_seconds"
SHAPED = (
    "hardware,model,tensor_parallel,layers_profiled,layers_total,hidden_size,attention_heads,ffn_hidden_size,"
    "prompt_tokens,output_tokens,runtime_seconds,runtime_std_seconds"
)
SPLITWISE = "model,hardware,prompt_size,batch_size,token_size,peak_power,average_power,prompt_time,token_time,e2e_time,tensor_parallel"


@pytest.fixture
def written(tmp_path: Path):
    def write(*lines: str) -> Path:
        path = tmp_path / "samples.csv"
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return path

    return write


def only(samples: tuple[Measured, ...]) -> Measured:
    assert len(samples) == 1
    return samples[0]


def test_rows_of_one_model_come_together_in_their_order(written) -> None:
    file = written(HEADER, "a100,m,16,2,0.5", "a100,n,1,1,0.1", "a100,m,16,2,0.4", "", "a100,m,1,1,0.2")
    first, second = read_samples(file)
    assert (first.model, second.model) == ("m", "n")
    assert first.prompt.tolist() == [16, 16, 1]
    assert first.output.tolist() == [2, 2, 1]
    assert first.seconds.tolist() == [0.5, 0.4, 0.2]
    assert first.batch.tolist() == [1, 1, 1]
    assert (first.tensor, first.scale, first.architecture) == (1, 1.0, None)


def test_hardware_and_degrees_are_told_apart(written) -> None:
    header = HEADER + ",tensor_parallel"
    file = written(header, "a100,m,1,1,0.5,1", "a100,m,1,1,0.3,2", "v100,m,1,1,0.7,1")
    assert [(each.hardware, each.tensor) for each in read_samples(file)] == [("a100", 1), ("a100", 2), ("v100", 1)]


def test_the_part_that_ran_is_described_and_the_whole_is_scaled(written) -> None:
    found = only(read_samples(written(SHAPED, "a100,big,8,35,105,20480,128,81920,1,1,0.043,0.001")))
    assert found.scale == 3.0
    assert found.architecture is not None
    assert (found.architecture.layers, found.architecture.hidden) == (35, 20480)
    assert found.architecture.head_dim == 160
    assert not found.architecture.gated
    assert found.seconds.tolist() == [0.043]


def test_rows_that_lack_the_shape_belong_to_those_that_have_it(written) -> None:
    shaped, bare = "a100,m,1,32,32,4096,32,16384,1,1,0.04,", "a100,m,1,,,,,,16,1,0.05,"
    assert only(read_samples(written(SHAPED, bare, shaped))).prompt.tolist() == [1, 16]
    other = "a100,m,1,16,16,4096,32,16384,1,1,0.02,"
    assert len(read_samples(written(SHAPED, bare, shaped, other))) == 3


@pytest.mark.parametrize(
    ("ffn", "column", "gated"),
    [(16384, "", False), (10922, "", True), (10922, "false", False), (16384, "true", True)],
)
def test_a_gate_is_read_or_told_from_the_width(written, ffn: int, column: str, gated: bool) -> None:
    file = written(SHAPED + ",gated", f"a100,m,1,32,32,4096,32,{ffn},1,1,0.04,,{column}")
    architecture = only(read_samples(file)).architecture
    assert architecture is not None
    assert architecture.gated is gated


def test_a_shipped_model_is_known_by_its_name(written) -> None:
    architecture = only(read_samples(written(HEADER, "h100,llama-3.1-8b,1,1,0.01"))).architecture
    assert architecture is not None
    assert architecture.kv_heads == 8


def test_splitwise_files_are_in_milliseconds_and_give_two_points_a_row(written) -> None:
    rows = (
        "llama2-70b,a100-80gb,512,1,128,1,0.7,196.25,54.75,9999,2",
        "llama2-70b,a100-80gb,512,4,1,1,0,200.0,0.1,9999,2",
    )
    found = only(read_samples(written(SPLITWISE, *rows)))
    assert found.prompt.tolist() == [512, 512, 512]
    assert found.output.tolist() == [1, 128, 1]
    assert found.batch.tolist() == [1, 1, 4]
    assert found.seconds == pytest.approx([0.19625, 0.19625 + 127 * 0.05475, 0.2])


def test_hardware_is_chosen_by_name_or_its_start(written) -> None:
    file = written(HEADER, "a100-80gb,m,1,1,0.5", "h100-80gb,m,1,1,0.5")
    samples = read_samples(file)
    assert choose_hardware(samples, None, str(file)) == samples
    assert [each.hardware for each in choose_hardware(samples, "A100", str(file))] == ["a100-80gb"]
    with pytest.raises(SamplesError, match=r"no samples of hardware 'b200': found a100-80gb, h100-80gb$"):
        choose_hardware(samples, "b200", str(file))


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (("hardware,model", "a,b"), r"line 1: no column prompt_tokens, output_tokens, runtime_seconds: found hardware, model$"),
        ((HEADER,), r"no samples, only a header$"),
        ((HEADER, "a100,m,1,1"), r"line 2: expected 5 columns, found 4$"),
        ((HEADER, "a100,m,1,1,0.1", "a100,m,x,1,0.1"), r"line 3: prompt_tokens: expected a whole number, 1 to 100,000,000, found 'x'$"),
        ((HEADER, "a100,m,0,1,0.1"), r"line 2: prompt_tokens: expected a whole number, 1 to 100,000,000, found '0'$"),
        ((HEADER, "a100,m,1,1.5,0.1"), r"line 2: output_tokens: .* found '1.5'$"),
        ((HEADER, "a100,m,1,1,0"), r"line 2: runtime_seconds: expected a time above 0, in seconds, found '0'$"),
        ((HEADER, "a100,m,1,1,nan"), r"line 2: runtime_seconds: expected a time above 0, in seconds, found 'nan'$"),
        ((HEADER, "a100,,1,1,0.1"), r"line 2: model: expected a name, found ''$"),
        ((SHAPED, "a100,m,1,32,32,big,32,1,1,1,0.1,"), r"line 2: hidden_size: expected a whole number"),
        ((SHAPED, "a100,m,1,32,32,99999999999,32,1,1,1,0.1,"), r"line 2: hidden_size: expected a whole number, 1 to 1,000,000"),
        ((SHAPED, "a100,m,1,105,35,4096,32,16384,1,1,0.1,"), r"line 2: layers_profiled: expected at most the 35 of layers_total, found '105'$"),
        ((HEADER, "a100,m,1,1,1e-300"), r"line 2: runtime_seconds: expected a time above 0, in seconds, found '1e-300'$"),
        ((HEADER, "a100,m,1000000000,1,1"), r"line 2: prompt_tokens: expected a whole number, 1 to 100,000,000"),
    ],
    ids=["columns", "empty", "short", "text", "zero", "fraction", "no-time", "nan", "name", "shape", "huge", "parts", "tiny", "tokens"],
)  # fmt: skip
def test_what_is_wrong_is_said_in_one_line(written, lines: tuple[str, ...], message: str) -> None:
    with pytest.raises(SamplesError, match=message):
        read_samples(written(*lines))


def test_an_empty_a_missing_and_a_binary_file(tmp_path: Path) -> None:
    empty, binary = tmp_path / "empty.csv", tmp_path / "binary.csv"
    empty.write_bytes(b"")
    binary.write_bytes(b"\xff\xfe\x00")
    for path, message in (
        (empty, "the file is empty"),
        (binary, "expected UTF-8"),
        (tmp_path / "no.csv", "No such file"),
    ):
        with pytest.raises(SamplesError, match=message):
            read_samples(path)
