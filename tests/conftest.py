"""What all tests share: how hard the laws are tried."""

import gc
import os
import re
import sys
import warnings
from collections.abc import Generator, Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests import kafka_broker

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


@pytest.fixture(autouse=True, scope="module")
def collected() -> Iterator[None]:
    """Collect what kafka-python left of a module's tests: sockets that never connected, which it does not close.

    Else they would be found, and told of as warnings, whenever they are collected: in whatever test that happens to be.
    """
    yield
    if "kafka" in sys.modules:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[kafka_broker.Served]:
    """A Kafka broker for all tests of a run, started when the first of them needs it; not to be killed."""
    if reason := kafka_broker.missing():
        pytest.skip(reason)
    base = tmp_path_factory.getbasetemp()
    run = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    with kafka_broker.shared(run / "kafka-broker") as served:
        yield served


@pytest.fixture(scope="session")
def own_broker() -> None:
    """For tests that make a broker of their own: skipped, with the reason, where none can run."""
    if reason := kafka_broker.missing():
        pytest.skip(reason)


@pytest.fixture
def prefix(request: pytest.FixtureRequest) -> str:
    """A prefix for this test's topics, so that tests share a broker and nothing else."""
    name = re.sub(r"[^A-Za-z0-9]+", "-", request.node.name)[:80]
    return f"{request.module.__name__.rpartition('.')[2]}.{name}."
