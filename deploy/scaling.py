"""SCALING.md: what 100,000 requests a second take, by arithmetic from measured figures.

python deploy/scaling.py          # writes deploy/SCALING.md again, after a figure below has changed
"""
# ruff: noqa: INP001, E501, RUF001 - a script that holds a document: its lines and its signs are those of the document

from math import ceil
from pathlib import Path

TARGET = Path(__file__).resolve().parent / "SCALING.md"
MEASURED = {
    "when": "2026-11-22, two shared cores",
    "worker_us": 125,  # `worker_cpu_us` of the bench's part `forwarding`
    "count_us": 19,  # `control_cpu_us`, off
    "forward_us": 25,  # `control_cpu_us`, on less off
    "chunk_us": 35,  # tests/bench/gateway/bench.py, CPU us a chunk
    "open_kb": 25,
    "stream_events": 21_300,  # the part `throughput`
    "stream_single": 19_600,
    "broker_us": 9,
    "log_bytes": 1_000,
    "input_bytes": 160,
    "enriched_bytes": 190,
    "window_bytes": 600,
    "learned_bytes": 14_500,
}
CHOSEN = {
    "rate": 100_000,
    "chunks": 130,
    "seconds": 5,
    "host_cores": 16,
    "busy": 0.6,
    "pairs": 300,
    "partitions": 48,
    "replicas": 3,
    "brokers": 3,
    "broker_cores": 8,
    "days": 7,
    "core_hour": 0.045,
    "gb_month": 0.08,
    "gb_across": 0.02,
}
# What the code has: tests/deploy/test_scaling.py compares.
PRODUCT = {"save_s": 5, "publish_s": 5, "publish_most": 100, "linger_ms": 50, "log_gib": 1, "ids": 250_000}


class Figures(dict[str, float]):
    """All figures by name: `figures.rate`."""

    __getattr__ = dict.__getitem__


def derived(f: Figures) -> dict[str, float]:
    """What follows from the figures."""
    f = Figures(f)
    f["whole_cores"] = f.rate * f.worker_us / 1e6 / f.busy
    f["stream_cores"] = f.rate * (f.worker_us + f.chunks * f.chunk_us) / 1e6 / f.busy
    f["own_workers"] = f.host_cores - 1
    f["hosts"] = ceil(f.stream_cores / f.own_workers)
    f["control_most"] = f.busy * 1e6 / (f.count_us + f.forward_us)
    f["gateways"] = ceil(f.rate / f.control_most)
    f["open"] = f.rate * f.seconds
    f["open_host"] = f.open / f.hosts
    f["open_mb"] = f.open_host * f.open_kb / 1000
    f["files_worker"] = 2 * f.open_host / f.own_workers
    f["few_hosts"] = ceil(f.open / 28_000)
    f["host_rate"] = f.rate / f.hosts
    f["log_rate"] = f.host_rate / f.own_workers
    f["log_linger"] = f.log_rate * f.linger_ms / 1000
    f["log_minutes"] = f.log_gib * 2**30 / (f.host_rate * f.log_bytes) / 60
    f["log_day_gb"] = f.host_rate * f.log_bytes * 86_400 / 1e9
    f["workers"] = ceil(f.rate / (f.stream_events * f.busy))
    f["single_workers"] = ceil(f.rate / (f.stream_single * f.busy))
    f["partition_rate"] = f.rate / f.partitions
    f["catch_up"] = 60 * f.busy / (1 - f.busy)
    f["written"] = f.rate * (f.input_bytes + f.enriched_bytes) / 1e6
    f["kafka_cores"] = f.rate * f.broker_us / 1e6 * f.replicas / f.busy
    f["stored"] = f.written * f.replicas * f.days * 86_400 / 1e6
    f["windows"] = f.partitions * 3 * f.pairs / f.save_s * f.window_bytes / 1e6
    f["windows_read"] = f.windows * f.workers
    f["windows_ten"] = f.windows * 10
    f["learned"] = f.publish_most / f.publish_s * f.learned_bytes * f.workers / 1e6
    f["learned_read"] = f.learned * (f.workers + f.hosts)
    f["ids_s"] = f.ids / (f.rate / f.workers)
    f["tail_s"] = 20_000 / f.partition_rate
    f["cores"] = f.stream_cores + f.workers / f.busy + f.brokers * f.broker_cores
    f["compute"] = f.cores * f.core_hour * 730
    f["disks"] = f.stored * 1000 * f.gb_month
    f["across"] = f.written * 86_400 * 30 / 1000 * (2 / 3 + f.replicas - 1 + 2 / 3) * f.gb_across
    f["together"] = f.compute + f.disks + f.across
    f["proxying"] = f.stream_cores * f.core_hour * 730
    f["rest"] = f.together - f.proxying
    f["millions"] = f.rate * 86_400 * 30 / 1e6
    f["a_million"] = f.together / f.millions
    return f


DOCUMENT = """\
# {rate:,} requests a second, on paper

What that takes, by arithmetic from what was measured on a small machine, and what breaks first. **Nothing of this size
was run.** Figures of one core carry over to many because gateway workers share nothing with each other, nor do
partitions; where that ends is said below. `deploy/scaling.py` makes this file: change its figures, and run it.

## Measured ({when})

| figure | | from |
|---|---|---|
| a request, 1 KB each way, in a gateway worker | {worker_us} µs of CPU | `tests/bench/cluster/bench.py` |
| an event in the control process: counted; forwarded | {count_us} µs; {forward_us} µs | the same |
| a chunk of a stream, in a gateway worker | {chunk_us} µs | `tests/bench/gateway/bench.py` |
| memory of a request under way | {open_kb} KB | a gateway with 500 and with 2,000 slow streams |
| a stream worker on one core: the forwarder's records; single events | {stream_events:,}/s; {stream_single:,}/s | `tests/bench/cluster/bench.py` |
| a broker without replicas: an event in, out, and in again enriched | {broker_us} µs of CPU | the same |
| an event in the gateway's log; in `llm.requests` (lz4); in `.enriched` (zstd) | {log_bytes:,}; {input_bytes}; {enriched_bytes} bytes | the same; 85 events a record |
| a row of `llm.windows`; a record of `llm.baselines`, 25 kB of them packed by zstd | {window_bytes}; {learned_bytes:,} bytes | the same |

Chosen: cores are {busy:.0%} busy. A request takes {seconds} s; a streamed one has {chunks} chunks, the mean output of the trace that
the demo replays. {pairs} pairs of upstream and model. Kafka keeps {days} days, {replicas} times.

## The gateway

| | arithmetic | |
|---|---|---|
| cores, whole replies | {rate:,}/s × {worker_us} µs ÷ {busy} | {whole_cores:,.0f} |
| cores, streamed replies | {rate:,}/s × ({worker_us} + {chunks} × {chunk_us} µs) ÷ {busy} | {stream_cores:,.0f} |
| hosts of {host_cores} cores, one of them for the control process | {stream_cores:,.0f} ÷ {own_workers} | **{hosts}** |
| requests/s that a control process can count and forward | {busy} ÷ ({count_us} + {forward_us} µs) | {control_most:,.0f} |
| so gateways (`gateway run --workers …`), at the least | {rate:,} ÷ {control_most:,.0f} | {gateways} |
| requests under way | {rate:,}/s × {seconds} s | {open:,} |
| … on a host; their memory | {open:,} ÷ {hosts}; × {open_kb} KB | {open_host:,.0f}; {open_mb:,.0f} MB |
| connections of one host to one address | ports 32,768 to 60,999, by default | 28,000 |
| so hosts, at the least | {open:,} ÷ 28,000 | {few_hosts} |

What costs is passing streams on, as it does any gateway; a chunk through bare aiohttp takes about as much, through nginx
a third. Whole replies alone would need {whole_cores:,.0f} cores in {gateways} gateways, and there the control process is the bound.

## Kafka and the stream

| | arithmetic | |
|---|---|---|
| stream workers of one core | {rate:,}/s ÷ ({stream_events:,}/s × {busy}) | **{workers}** |
| … if every record held one event | {rate:,}/s ÷ ({stream_single:,}/s × {busy}) | {single_workers} |
| partitions | four for each of {single_workers} workers | {partitions} |
| events/s in one | {rate:,} ÷ {partitions} | {partition_rate:,.0f} |
| an outage of 60 s is caught up with in | 60 s × {busy} ÷ (1 − {busy}) | {catch_up:,.0f} s |
| written | {rate:,}/s × ({input_bytes} + {enriched_bytes} bytes) | {written:,.1f} MB/s |
| cores of brokers | {rate:,}/s × {broker_us} µs × {replicas} replicas ÷ {busy} | {kafka_cores:,.1f} |
| brokers, so that one may fail | {kafka_cores:,.1f} cores, {replicas} replicas | **{brokers}** of {broker_cores} cores |
| on their disks | {written:,.1f} MB/s × {replicas} × {days} days | {stored:,.1f} TB |
| `llm.windows` | {partitions} × 3 lengths × {pairs} pairs × {window_bytes} bytes ÷ {save_s} s | {windows:,.1f} MB/s |
| … read by every stream worker | × {workers} | {windows_read:,.0f} MB/s |
| `llm.baselines`, at most | {workers} workers × {publish_most} × {learned_bytes:,} bytes ÷ {publish_s} s | {learned:,.1f} MB/s |
| … read by every stream worker and gateway | × ({workers} + {hosts}) | {learned_read:,.0f} MB/s |

Where streams are passed on, records are small: {hosts} hosts with {own_workers} workers each write {log_rate:,.0f} events/s to a log, of which {linger_ms} ms
gather {log_linger:,.0f}. So count with single events, or with a longer `--kafka-linger-ms`.

## Dollars

List prices of a large cloud, rounded: ${core_hour} a core and hour, ${gb_month} a GB and month of disk, ${gb_across} a GB between zones. Put in
your own.

| a month | arithmetic | |
|---|---|---|
| cores | ({stream_cores:,.0f} + {workers} ÷ {busy} + {brokers} × {broker_cores}) × ${core_hour} × 730 h | ${compute:,.0f} |
| disks | {stored:,.1f} TB × ${gb_month} | ${disks:,.0f} |
| between zones | {written:,.1f} MB/s × 30 days × (⅔ in + 2 replicas + ⅔ out) × ${gb_across} | ${across:,.0f} |
| together | | **${together:,.0f}** |
| … without the gateways' cores, {stream_cores:,.0f} × ${core_hour} × 730 h | ${together:,.0f} − ${proxying:,.0f} | ${rest:,.0f} |
| a million requests | ${together:,.0f} ÷ {millions:,.0f} | ${a_million:,.2f} |

## What breaks first

1. **The provider.** Such a rate goes over many keys, regions or servers of one's own; each upstream gets a baseline of its
   own.
2. **Sockets.** With fewer than {few_hosts} hosts the ports to one address run out before CPU or memory do. Then open files:
   {files_worker:,.0f} a worker, where the usual limit is 1,024 (`ulimit -n`).
3. **The control process** of a host with many workers and short replies. Above {control_most:,.0f} requests/s it lags, and `/metrics` and
   the page with it (`trueclock_forwarder_backlog_events` rises); nothing is lost until retention deletes. Several gateways
   on the host, each with a port and a `--data-dir`, are the answer.
4. **The log, while Kafka is away.** {host_rate:,.0f} events/s of {log_bytes:,} bytes fill the {log_gib} GiB that `retention` keeps by default in
   {log_minutes:,.0f} minutes; what is deleted before it was forwarded is counted (`outcome="missed"`). A day takes {log_day_gb:,.0f} GB a host.
5. **Memory of ids.** A stream worker knows at least its latest {ids:,} ids: {ids_s:,.0f} s of its share; after a change of owner, the
   last 20,000 of each partition: {tail_s:,.0f} s. What a gateway's forwarder sends again after a crash is known, if the gateway is back
   by then; what comes later may be written twice. More workers, and more partitions, know more.
6. **Pairs of upstream and model.** `llm.windows` and `llm.baselines` grow with pairs, not with requests: with ten times as
   many, windows alone would be {windows_ten:,.0f} MB/s, more than all events.
7. **Partitions** are best chosen at once: create `llm.requests` with {partitions} before the first start, and the other topics are made
   to match. Where some are added later, an event that is sent again just then may go to another partition than before,
   and be written twice.

What does not: one hot partition, since keys are blocks of 256 rows of a worker's log, whoever called what; and a
worker's death, since the others take its partitions within ten seconds and it takes them back in two.
"""


def document() -> str:
    """The whole text."""
    numbers = Figures({**{key: value for key, value in MEASURED.items() if key != "when"}, **CHOSEN, **PRODUCT})
    return DOCUMENT.format(**derived(numbers), when=MEASURED["when"])


if __name__ == "__main__":
    TARGET.write_text(document(), encoding="utf-8")
