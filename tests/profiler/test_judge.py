"""The summary of errors: every number of it, by hand."""

import numpy as np
import pytest

from profiler.judge import Judged, judge, summary_lines


def test_every_number() -> None:
    found = judge(
        [
            Judged("a", np.array([0.1, -0.2, 0.3])),
            Judged("b", np.array([-0.5])),
            Judged("nothing", np.zeros(0)),
        ]
    )
    assert list(found["models"]) == ["a", "b"]
    assert found["models"]["a"] == pytest.approx({"mean": 0.2, "median": 0.2, "p90": 0.28, "p95": 0.29, "points": 3})
    assert found["models"]["b"] == {"mean": 0.5, "median": 0.5, "p90": 0.5, "p95": 0.5, "points": 1}
    assert found["overall"] == pytest.approx({"mean": 0.275, "p95": 0.47, "median_model": 0.35, "worst_model": 0.5})
    assert "coverage" not in found


def test_one_name_is_one_model_and_intervals_are_counted() -> None:
    found = judge(
        [
            Judged("a", np.array([0.1]), np.array([True])),
            Judged("a", np.array([0.3]), np.array([False])),
            Judged("b", np.array([0.3]), np.array([True])),
        ]
    )
    assert found["models"]["a"]["points"] == 2
    assert found["coverage"] == {"level": 0.8, "mean": 0.75, "models": {"a": 0.5, "b": 1.0}}
    assert summary_lines(found)[-1] == "80 % intervals held 75% of the truth, on average over models"


def test_nothing_left_out() -> None:
    found = judge([Judged("a", np.zeros(0))])
    assert found == {
        "models": {},
        "overall": {"mean": None, "p95": None, "median_model": None, "worst_model": None},
    }
    assert summary_lines(found) == ["nothing could be left out"]


def test_a_line_a_model() -> None:
    lines = summary_lines(judge([Judged("model", np.array([0.1, 0.2]))]))
    assert [line.split()[0] for line in lines[1:]] == ["model", "all", "models:"]
    assert lines[1].split()[1:] == ["15.0%", "15.0%", "19.0%", "19.5%", "2"]
