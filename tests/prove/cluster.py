#!/usr/bin/env python3
"""Nothing lost, nothing twice, on a cluster: faults under load, and what is in `llm.requests.enriched` afterwards.

    python tests/prove/cluster.py                          # every fault 5 times, 25 minutes
    python tests/prove/cluster.py --short                  # once each, the long outage 10 s
    python tests/prove/cluster.py --fault zombie --times 2

A real broker, `gateway run --workers 2`, two `stream worker`s, and 500 numbered requests a second that do not slow down
for anything. The output topic is read raw: of every request whose reply came whole there is one record, and no id twice.
In step again means that all replies older than a second are in the output, seen from outside, while the load goes on.
At the end the fleet's windows have counted exactly the records that are there, and strategies (a fifth of the requests
are attempts at problems, outcomes are posted all the while) are those of a recount. Then the same checks are made to fail.
"""

import argparse
import asyncio
import contextlib
import json
import os
import random
import signal
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from enriched_tail import Counted, Tail
from judged import Judge, recounted
from kill import start_upstream
from paced_load import PacedLoad
from proving import ROOT, Claims, Gateway, ProofError, end_on_sigterm, stored, wait_total, workplace

sys.path.insert(0, str(ROOT))
from tests.kafka_broker import Broker, missing
from tests.kafka_topics import KafkaProducer, read_topic
from tests.worker_process import WorkerProcess

RATE = 500.0
STEP_SECONDS = 30.0
PATIENCE_SECONDS = 120.0
LATE_SECONDS = 1.0
"""A reply older than this whose event is not in the output: out of step"""

SETTLED_SECONDS = 2.0
ZOMBIE_SECONDS = 20.0  # longer than any session timeout a worker may have
FROZEN_SECONDS = 15.0
TOPIC = "llm.requests"


def gateway_processes(gateway: Gateway) -> dict[str, list[int]]:
    """The processes below the supervisor, by what they have open: `worker` has a log to write, `control` the rest."""
    found: dict[str, list[int]] = {"worker": [], "control": []}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if parent != gateway.process.pid:
                continue
            files = {file.readlink().name for file in (folder / "fd").iterdir()}
        except OSError:
            continue
        role = "control" if "stream.sqlite" in files else "worker"
        if role == "control" or any(name.startswith("events-") for name in files):
            found[role].append(int(folder.name))
    return found


@dataclass(slots=True)
class Cluster:
    """All that runs, and what is known of it."""

    broker: Broker
    gateway: Gateway
    workers: list[WorkerProcess]
    load: PacedLoad
    tail: Tail
    rng: random.Random
    outage_seconds: float
    extra: WorkerProcess
    judge: Judge

    def behind(self) -> int:
        """How many replies that came whole more than a second ago are not in the output."""
        at, numbers = self.load.whole_at, self.tail.counted.numbers
        while at and at[0][1] in numbers:
            at.popleft()
        limit = time.monotonic() - LATE_SECONDS
        return sum(number not in numbers for moment, number in at if moment < limit)

    async def in_step(self, since: float | None = None) -> float:
        """Wait until nothing is behind for a while; seconds since `since` until that began."""
        began = time.monotonic() if since is None else since
        deadline, good_since = time.monotonic() + PATIENCE_SECONDS, None
        while True:
            now, behind = time.monotonic(), self.behind()
            good_since = (good_since or now) if not behind and self.load.whole_at else None
            if good_since is not None and now - good_since > SETTLED_SECONDS:
                return max(good_since - began, 0.0)
            if now > deadline:
                raise ProofError(f"{behind} events are still behind after {PATIENCE_SECONDS:.0f} s: {self.states()}")
            await asyncio.sleep(0.05)

    def states(self) -> str:
        """What the processes say last."""
        return "; ".join(
            [f"gateway: {self.gateway.tail(300)}", *(f"{each.name}: {each.tail(300)!r}" for each in self.workers)]
        )

    async def process(self, role: str) -> int:
        """One of the gateway's processes in this role."""
        deadline = time.monotonic() + 10
        while not (found := gateway_processes(self.gateway)[role]):
            if time.monotonic() > deadline:
                raise ProofError(f"the gateway has no {role} process: {self.gateway.tail()}")
            await asyncio.sleep(0.05)
        return self.rng.choice(found)


# --- faults: each returns the seconds until all was in step again, from when its cause was gone


async def kill_stream_worker(cluster: Cluster, turn: int) -> float:
    """Kill -9, started again under its name at once, or, every other time, when others have caught up without it."""
    worker, began, alone = cluster.rng.choice(cluster.workers), time.monotonic(), 0.0
    worker.kill()
    if turn % 2:
        alone = await cluster.in_step(began)
    worker.start()
    return max(alone, await cluster.in_step())


async def kill_both_stream_workers(cluster: Cluster, _turn: int) -> float:
    """Kill -9 of all stream workers at once."""
    for worker in cluster.workers:
        worker.kill()
    for worker in cluster.workers:
        worker.start()
    return await cluster.in_step()


async def kill_broker(cluster: Cluster, _turn: int) -> float:
    """Kill -9, started again at once."""
    await asyncio.to_thread(cluster.broker.kill)
    await asyncio.to_thread(cluster.broker.start)
    return await cluster.in_step()


async def broker_away(cluster: Cluster, _turn: int) -> float:
    """Stopped in order, and started again after a minute."""
    await asyncio.to_thread(cluster.broker.stop)
    await asyncio.sleep(cluster.outage_seconds)
    await asyncio.to_thread(cluster.broker.start)
    return await cluster.in_step()


async def freeze_broker(cluster: Cluster, _turn: int) -> float:
    """Stopped for a quarter of a minute with its connections open: nobody is told, answers come late."""
    cluster.broker.signal(signal.SIGSTOP)
    await asyncio.sleep(FROZEN_SECONDS)
    cluster.broker.signal(signal.SIGCONT)
    return await cluster.in_step()


async def kill_gateway_worker(cluster: Cluster, _turn: int) -> float:
    """Kill -9 of one that serves."""
    os.kill(await cluster.process("worker"), signal.SIGKILL)
    return await cluster.in_step()


async def kill_control(cluster: Cluster, _turn: int) -> float:
    """Kill -9 of the one that counts and forwards."""
    os.kill(await cluster.process("control"), signal.SIGKILL)
    return await cluster.in_step()


async def kill_supervisor(cluster: Cluster, _turn: int) -> float:
    """Kill -9 of the gateway's first process alone: all others end by themselves; then it is started again."""
    gateway = cluster.gateway
    children = [pid for pids in gateway_processes(gateway).values() for pid in pids]
    os.kill(gateway.process.pid, signal.SIGKILL)
    gateway.process.wait()
    deadline = time.monotonic() + 30
    while left := [pid for pid in children if runs(pid)]:
        if time.monotonic() > deadline:
            raise ProofError(f"processes {left} outlive their supervisor")
        await asyncio.sleep(0.01)
    await asyncio.to_thread(gateway.start)
    return await cluster.in_step()


async def zombie(cluster: Cluster, _turn: int) -> float:
    """SIGSTOP for longer than the session timeout, so that another takes over; then it goes on where it was."""
    worker = cluster.rng.choice(cluster.workers)
    worker.signal(signal.SIGSTOP)
    await asyncio.sleep(ZOMBIE_SECONDS)
    worker.signal(signal.SIGCONT)
    return await cluster.in_step()


async def add_and_remove(cluster: Cluster, _turn: int) -> float:
    """A third stream worker comes, has its partitions, and leaves in order."""
    cluster.extra.start()
    await asyncio.to_thread(cluster.extra.ready, 4)
    added = await cluster.in_step()
    if status := await asyncio.to_thread(cluster.extra.stop):
        raise ProofError(f"the third stream worker left with status {status}: {cluster.extra.tail()}")
    return max(added, await cluster.in_step())


async def storm(cluster: Cluster, _turn: int) -> float:
    """Several at once: broker, a stream worker, a gateway worker and control, at random moments of two seconds."""
    worker = cluster.rng.choice(cluster.workers)

    async def at_random(*does: Callable[[], object]) -> None:
        await asyncio.sleep(cluster.rng.uniform(0, 2))
        for do in does:
            await asyncio.to_thread(do)

    doomed = [await cluster.process(role) for role in ("worker", "control")]
    await asyncio.gather(
        at_random(cluster.broker.kill, cluster.broker.start),
        at_random(worker.kill, worker.start),
        *(at_random(partial(os.kill, pid, signal.SIGKILL)) for pid in doomed),
    )
    return await cluster.in_step()


Fault = Callable[[Cluster, int], Awaitable[float]]
FAULTS: dict[str, Fault] = {
    "stream-worker": kill_stream_worker,
    "both-stream-workers": kill_both_stream_workers,
    "broker": kill_broker,
    "broker-away": broker_away,
    "broker-frozen": freeze_broker,
    "gateway-worker": kill_gateway_worker,
    "control": kill_control,
    "supervisor": kill_supervisor,
    "zombie": zombie,
    "add-and-remove": add_and_remove,
    "storm": storm,
}


def runs(pid: int) -> bool:
    """Tell whether a process is there, and no zombie of the system's kind."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


# --- the proof


async def punish(cluster: Cluster, faults: Sequence[str], times: int) -> dict[str, list[float]]:
    """Carry out every fault under load; seconds until all was in step again, from when its cause was gone."""
    load = asyncio.create_task(cluster.load.run())
    judging = asyncio.create_task(cluster.judge.run(cluster.load.outcome.sent))
    took: dict[str, list[float]] = {}
    try:
        await cluster.in_step()
        for name in faults:
            for turn in range(times):
                took.setdefault(name, []).append(await FAULTS[name](cluster, turn))
            print(f"       {name}: in step again after {', '.join(f'{each:.1f}' for each in took[name])} s", flush=True)
    finally:
        cluster.load.running = cluster.judge.running = False
        await asyncio.wait_for(asyncio.gather(load, judging), PATIENCE_SECONDS)
    return took


async def all_in(cluster: Cluster) -> None:
    """Wait until the output has what it will have."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline and cluster.tail.counted.missing(cluster.load.outcome.whole):
        await asyncio.sleep(0.1)
    await asyncio.sleep(SETTLED_SECONDS)  # whatever would come twice may come now


def check(claims: Claims, cluster: Cluster, took: dict[str, list[float]]) -> list[Any]:
    """State the claims of the proof itself; return the records of the output."""
    outcome = cluster.load.outcome
    records = read_topic(cluster.broker.bootstrap, f"{TOPIC}.enriched")
    counted = Counted.of(records)
    lost = counted.missing(outcome.whole)
    claims.claim("requests whose reply came whole, without a record: 0", lost == 0, f"{lost} of {len(outcome.whole)}")
    claims.claim("ids or requests that are there twice: 0", counted.twice == 0, f"{counted.twice} of {len(records)}")
    claims.claim("records of requests never sent: 0", not counted.numbers.keys() - outcome.sent)
    claims.claim("every whole reply was the upstream's", not outcome.odd, list(outcome.odd.values())[:2] or "all 200")
    dead = read_topic(cluster.broker.bootstrap, f"{TOPIC}.dead")
    claims.claim("dead letters: 0", not dead, [record.value[:200] for record in dead[:2]] or 0)
    for name, seconds in took.items():
        text = f"{name}: in step again within {STEP_SECONDS:.0f} s"
        claims.claim(text, max(seconds) <= STEP_SECONDS, f"at most {max(seconds):.1f} s")
    events = stored(cluster.gateway.data)
    shown = wait_total(cluster.gateway, events)["trueclock_requests_total"]
    claims.claim("the gateway's /metrics count every row of its logs", sum(shown.values()) == events, events)
    claims.claim("as many records as events in the logs", len(records) == events, f"{len(records)} of {events}")
    return records


def check_windows(claims: Claims, cluster: Cluster, records: int) -> None:
    """State that the windows of the fleet, as each worker tells them, count every record once."""
    since = urllib.parse.quote("1d")
    for worker in cluster.workers:
        deadline, found = time.monotonic() + 15, -1
        while found != records and time.monotonic() < deadline:
            answer = worker.ask(f"/trueclock/v1/windows?length=3600&since={since}&by=upstream,model")
            found = requests_in(json.loads(answer)) if answer else -1
            time.sleep(0.2)
        claims.claim(f"the windows of {worker.name} count every record once", found == records, f"{found} of {records}")


def check_strategies(claims: Claims, cluster: Cluster, records: Sequence[Any]) -> None:
    """State that strategies, as each worker and the gateway tell them, are those of a recount."""
    judge, wanted = cluster.judge, recounted(records, cluster.judge.accepted)
    judged = f"{wanted['requests']} requests, {wanted['outcomes']} outcomes, {judge.refused} posts tried again"
    claims.claim("strategies: there are some", wanted["requests"] > 0 < wanted["outcomes"], judged)
    asked = {each.name: each.address for each in cluster.workers} | {"the gateway": cluster.gateway.address}
    for name, address in asked.items():
        deadline, found = time.monotonic() + 15, {}
        while found != wanted and time.monotonic() < deadline:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{address}/trueclock/v1/strategies") as answer:
                found = json.loads(answer.read())
            time.sleep(0.2)
        detail = f"{found.get('requests')} requests, {found.get('outcomes')} outcomes"
        claims.claim(f"the strategies of {name} are those of a recount", found == wanted, detail)
    fewer = recounted(records, judge.accepted[1:])
    claims.claim("control: an outcome taken away changes them", fewer != wanted)


def requests_in(answer: Any) -> int:
    """Add up the requests of a windows answer."""
    return sum(window["total"]["requests"] for window in answer["windows"])


def controls(claims: Claims, cluster: Cluster, records: Sequence[Any]) -> None:
    """Make the checks fail: checks that cannot fail prove nothing."""
    last = records[-1]
    producer = KafkaProducer(bootstrap_servers=cluster.broker.bootstrap, acks="all")
    producer.send(last.topic, last.value, last.key, last.headers, last.partition).get(30)
    producer.close()
    counted = Counted.of(read_topic(cluster.broker.bootstrap, last.topic))
    claims.claim("control: a doubled record is found", counted.twice == 2, f"{counted.twice}: its id and its number")
    never = {max(cluster.load.outcome.sent) + 1}
    found = counted.missing(cluster.load.outcome.whole | never)
    claims.claim("control: a request without a record is found", found == 1, found)
    found = Counted.of(records[7:]).missing(cluster.load.outcome.whole)
    claims.claim("control: seven records taken away are found missing", found == 7, found)


async def carry_out(cluster: Cluster, options: argparse.Namespace, claims: Claims) -> None:
    """Start what is left to start, carry out the faults and check."""
    for worker in cluster.workers:
        worker.start()
    for worker in cluster.workers:
        await asyncio.to_thread(worker.ready, 6)
    cluster.tail.start()
    took = await punish(cluster, options.faults, options.times)
    await all_in(cluster)
    records = await asyncio.to_thread(check, claims, cluster, took)
    await asyncio.to_thread(check_windows, claims, cluster, len(records))
    await asyncio.to_thread(check_strategies, claims, cluster, records)
    await asyncio.to_thread(controls, claims, cluster, records)


def prove(options: argparse.Namespace, work: Path) -> int:
    """Carry out the proof; return the exit status."""
    claims = Claims("cluster")
    upstream, address = start_upstream(work)
    broker = Broker(work / "broker")
    gateway = Gateway(address, work / "data", work / "gateway.log")
    cluster: Cluster | None = None
    try:
        broker.start()
        gateway.options = ("--workers", "2", "--kafka", broker.bootstrap)
        gateway.start()
        names = ("stream-1", "stream-2", "stream-3")
        *workers, extra = (WorkerProcess(broker.bootstrap, work, name=name) for name in names)
        load = PacedLoad(gateway.port, options.rate)
        rng = random.Random(options.seed)
        cluster = Cluster(
            broker, gateway, workers, load, Tail(broker.bootstrap, f"{TOPIC}.enriched"), rng, options.outage, extra,
            Judge(gateway.address),
        )  # fmt: skip
        asyncio.run(carry_out(cluster, options, claims))
    finally:
        upstream.kill()
        if cluster is not None:
            cluster.tail.close()
            for worker in (*cluster.workers, cluster.extra):
                if hasattr(worker, "process"):
                    worker.kill()
        if hasattr(gateway, "process"):
            gateway.kill()
        broker.close()
    outcome = cluster.load.outcome
    summary = f"{len(options.faults)} faults x {options.times}, {len(outcome.sent)} sent, {len(outcome.whole)} whole"
    return claims.finish(f"{summary}, {cluster.load.skipped} skipped; seed {options.seed}")


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, help="how often each fault; default 5")
    parser.add_argument("--fault", default=",".join(FAULTS), help="some of them, with commas")
    parser.add_argument("--rate", type=float, default=RATE, help="requests a second")
    parser.add_argument("--short", action="store_true", help="each once, the broker away for 10 s")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    parser.add_argument("--keep", type=Path, metavar="DIR", help="work in this directory and leave it there")
    options = parser.parse_args(argv)
    options.times = options.times or (1 if options.short else 5)
    options.outage = 10.0 if options.short else 60.0
    options.faults = options.fault.split(",")
    if unknown := [name for name in options.faults if name not in FAULTS]:
        parser.error(f"unknown fault {unknown[0]!r}: there are {', '.join(FAULTS)}")
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Run the proof; return 0 when every claim holds, 1 when one fails, 2 when it cannot be carried out."""
    options = arguments(argv)
    if reason := missing():
        print(f"cluster: FAILED: {reason}")
        return 2
    end_on_sigterm()
    try:
        with workplace(options.keep) as work:
            return prove(options, work)
    except ProofError as error:
        print(f"cluster: FAILED: {error}")
        return 2


if __name__ == "__main__":
    sys.exit(main())
