"""What all tests share: how hard the laws are tried."""

import os
from collections.abc import Generator

import pytest
from hypothesis import HealthCheck, settings

# As `profiler` does: matrices are small here, and threads that wait for each other make them slow on a busy machine.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

_THOROUGH = os.environ.get("TRUECLOCK_THOROUGH") == "1"

settings.register_profile(
    "trueclock",
    deadline=None,  # machines are busy; times are measured by benches, never by tests
    max_examples=1000 if _THOROUGH else 60,
    derandomize=not _THOROUGH,  # chance belongs into `make prove`: a red run there is a find, not a flake
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("trueclock")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI a skip is a failure, as everything a test needs is installed there; only torch may be absent."""
    report = yield
    if report.skipped and os.environ.get("CI") == "true" and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if "torch" not in reason:
            report.outcome, report.longrepr = "failed", f"{item.nodeid}: skipped in CI: {reason}"
    return report
