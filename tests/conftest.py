"""What all tests share: how hard the laws are tried."""

import gc
import logging
import os
import re
import signal
import sys
import warnings
from collections.abc import Generator, Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests import kafka_broker

# As `profiler` does: matrices are small here, and threads that wait for each other make them slow on a busy machine.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell has it for what it starts with &: children would
    signal.signal(signal.SIGINT, signal.default_int_handler)  # inherit that, and Ctrl-C end none of them

_MAY_BE_ABSENT = ("torch", "a host of its own takes root", "this kernel has no", "cgroup2 is mounted nowhere")
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
    """In CI a skip is a failure, as all that a test needs is installed there; what may be absent is torch, and the
    rights to make a host with a systemd of its own.
    """
    report = yield
    if report.skipped and os.environ.get("CI") == "true" and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if not any(each in reason for each in _MAY_BE_ABSENT):
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


@pytest.fixture(autouse=True)
def process_as_it_was() -> Iterator[None]:
    """A command that a test runs within this process sets logging and SIGHUP up for its own: not for what follows."""
    root, hangup = logging.getLogger(), signal.getsignal(signal.SIGHUP)
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    signal.signal(signal.SIGHUP, hangup)


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
