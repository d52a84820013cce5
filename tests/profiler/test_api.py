"""What the package gives: four functions, whichever of its modules were imported before, and NumPy only with them."""

import subprocess
import sys
from pathlib import Path

import pytest

import profiler

ROOT = Path(__file__).parents[2]


def test_what_there_is() -> None:
    assert profiler.__all__ == ["fit", "plan", "predict", "read_samples"]
    for name in profiler.__all__:
        assert callable(getattr(profiler, name))
        assert name in dir(profiler)
    with pytest.raises(AttributeError, match="module 'profiler' has no attribute 'guess'"):
        _ = profiler.guess


@pytest.mark.parametrize("before", ["profiler.cli", "profiler.fit_command, profiler.predict_command, profiler.offline"])
def test_they_are_functions_whatever_was_imported(before: str) -> None:
    code = f"import {before}\nfrom profiler import fit, plan, predict, read_samples\nprint(*map(callable, (fit, plan, predict, read_samples)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True"] * 4


def test_the_package_itself_imports_no_numbers() -> None:
    code = "import profiler, sys\nprint('numpy' in sys.modules)\nprofiler.read_samples\nprint('numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]
