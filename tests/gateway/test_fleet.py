"""A gateway learns from what stream workers have seen: the topic is read while requests go on, or not at all."""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from kafka_broker import Broker, Served
from kafka_topics import New, create_topic, write
from prometheus_client import CollectorRegistry

from gateway.fleet import FleetReader
from stream.coefficients import load_tables
from stream.denoise import Denoiser
from stream.enrich import enrich
from stream.kafka import KafkaSettings
from stream.simulate import Simulation
from tests.gateway.test_own_paths import samples
from tests.harness import GatewayProcess, ask, run, until

PATIENCE = 60.0

pytestmark = [
    pytest.mark.usefixtures("no_pause"),
    # kafka-python leaves sockets of connections that failed to the garbage collector.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.fleet._AGAIN_SECONDS", 0.1)


@asynccontextmanager
async def reading(address: str, prefix: str, take: Callable[[Any], None]) -> AsyncIterator[FleetReader]:
    reader = FleetReader(KafkaSettings((address,), prefix=prefix), take)
    reader.start()
    try:
        yield reader
    finally:
        await asyncio.to_thread(reader.close)
        assert not reader._thread.is_alive()


async def put(address: str, prefix: str, *records: New) -> None:
    await asyncio.to_thread(write, address, f"{prefix}llm.baselines", records)


def counted(reader: FleetReader) -> float | None:
    registry = CollectorRegistry()
    registry.register(reader)
    return registry.get_sample_value("trueclock_fleet_records_total")


def test_all_records_are_handed_over_in_order_on_the_loop(broker: Served, prefix: str) -> None:
    async def check() -> None:
        create_topic(broker.bootstrap, f"{prefix}llm.baselines")
        await put(broker.bootstrap, prefix, *(New(b"%d" % number, b"key") for number in range(50)))
        values, threads = list[bytes | None](), set[int]()

        def take(records: Any) -> None:
            threads.add(threading.get_ident())
            values.extend(value for key, value in records if key == b"key")

        async with reading(broker.bootstrap, prefix, take) as reader:
            await until(lambda: len(values) == 50)
            await put(broker.bootstrap, prefix, New(None, b"key"), New(b"nobody's"))
            await until(lambda: counted(reader) == 52)
            assert reader.failing is None
        assert values == [*(b"%d" % number for number in range(50)), None]
        assert threads == {threading.get_ident()}

    run(check())


def test_a_topic_that_is_not_there_yet_is_waited_for(
    broker: Served, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def check() -> None:
        taken = list[Any]()
        async with reading(broker.bootstrap, prefix, taken.extend) as reader:
            await until(lambda: reader.failing)
            assert reader.failing == f"there is no topic {prefix}llm.baselines yet"
            create_topic(broker.bootstrap, f"{prefix}llm.baselines")
            await put(broker.bootstrap, prefix, New(b"value", b"key"))
            await until(lambda: taken == [(b"key", b"value")])
            await until(lambda: reader.failing is None)

    with caplog.at_level(logging.INFO, "trueclock"):
        run(check())
    assert not [record for record in caplog.records if record.name.startswith("trueclock")]


@pytest.mark.usefixtures("own_broker")
def test_a_broker_may_be_away_at_the_start_and_later(tmp_path: Path) -> None:
    async def check() -> None:
        taken, broker = list[Any](), Broker(tmp_path / "broker")
        try:
            async with reading(broker.bootstrap, "", taken.extend) as reader:
                await until(lambda: "Connection refused" in (reader.failing or ""))
                await asyncio.to_thread(broker.start)
                await asyncio.to_thread(create_topic, broker.bootstrap, "llm.baselines")
                await put(broker.bootstrap, "", New(b"1", b"key"))
                await until(lambda: len(taken) == 1, PATIENCE)
                await asyncio.to_thread(broker.kill)
                await asyncio.to_thread(broker.start)
                await put(broker.bootstrap, "", New(b"2", b"key"))
                await until(lambda: len(taken) == 2, PATIENCE)
        finally:
            broker.close()
        assert taken == [(b"key", b"1"), (b"key", b"2")]

    run(check())


def test_who_takes_them_may_fail(broker: Served, prefix: str) -> None:
    async def check() -> None:
        errors = list[Any]()
        asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context["exception"]))
        create_topic(broker.bootstrap, f"{prefix}llm.baselines")
        await put(broker.bootstrap, prefix, *(New(b"", b"key") for _ in range(20)))
        async with reading(broker.bootstrap, prefix, lambda records: records[99]) as reader:
            await until(lambda: counted(reader) == 20)
        assert {type(error) for error in errors} == {IndexError}

    run(check())


def test_a_gateway_works_out_baselines_from_what_a_worker_saw(broker: Served, prefix: str, tmp_path: Path) -> None:
    worker, tables = Denoiser(origin="worker-1"), load_tables()
    for each in Simulation(1, 200, "default"):
        worker.observe(enrich(each.event, tables))
    worker.refresh()

    async def check() -> None:
        create_topic(broker.bootstrap, f"{prefix}llm.baselines")
        records = [New(value, key) for key, value in worker.publish()]
        await put(broker.bootstrap, prefix, *records, New(b"not one of ours", b"odd"))
        options = ("--kafka", broker.bootstrap, "--topic-prefix", prefix)
        async with GatewayProcess(*options, data_dir=tmp_path) as gateway, asyncio.timeout(PATIENCE):
            while not any(samples(metrics := await exposed(gateway), "trueclock_baseline_refits_total").values()):
                await asyncio.sleep(0.1)
            assert samples(metrics, "trueclock_baseline_pairs") == {(): 1}
            assert samples(metrics, "trueclock_fleet_records_total") == {(): 2}
            assert samples(metrics, "trueclock_fleet_failing") == {(): 0}

    run(check())


async def exposed(gateway: GatewayProcess) -> bytes:
    return (await ask(gateway.url, target="/metrics")).body


def test_the_document_lists_its_metrics() -> None:
    reader = FleetReader(KafkaSettings(("127.0.0.1:9",)), list[Any]().extend)
    text = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")
    for family in reader.collect():
        name = family.name + ("_total" if family.type == "counter" else "")
        assert f"| `{name}` | {family.type} | |" in text
