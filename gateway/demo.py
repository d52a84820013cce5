"""The demo: the replay upstream and a client that sends a production trace through the real gateway to it."""

import asyncio
from typing import Any

from gateway.replay import ReplayUpstream
from gateway.service_time import FASTER_THAN_IDEALIZED, ReplayedProvider
from gateway.traffic import MAX_IN_FLIGHT, STREAMED_SHARE, Traffic

SOURCES = (
    (
        "Service times: denoised runtimes of 2022 and contention of AI21's API, measured by "
        "Narayanan et al., NeurIPS 2023 (arXiv 2305.02440)."
    ),
    "Arrivals and sizes: Azure LLM Inference Trace 2023, Microsoft, CC BY 4.0; 400 rows, repeated.",
)


class Demo:
    """Everything of the demo but the gateway: `start`, then `traffic` until stopped, then `close`."""

    def __init__(self, speed: float = 1.0, seed: int | None = None) -> None:
        """Compress arrivals by `speed` (above 0, else ValueError); service times stay as they are."""
        provider = ReplayedProvider(seed=seed)
        self.speed = speed
        self.upstream = ReplayUpstream(provider)
        self.client = Traffic(provider.models, speed, seed)

    async def start(self) -> str:
        """Start the replay upstream on a free port; return its URL, which is the gateway's `--upstream`."""
        return await self.upstream.start()

    async def traffic(self, gateway_url: str, stop: asyncio.Event) -> None:
        """Send traffic to the gateway until `stop` is set; return when every request has ended."""
        await self.client.run(gateway_url, stop)

    async def close(self) -> None:
        """Stop the replay upstream."""
        await self.upstream.close()

    def notes(self) -> dict[str, Any]:
        """Say what is replayed, for the page: JSON-able, the traffic's counts and the episode's state now."""
        episode = self.upstream.provider.episode
        counts = self.client.counts
        return {
            "what": self._what(),
            "sources": list(SOURCES),
            "speed": self.speed,
            "episode": {
                "model": episode.model,
                "factor": episode.factor,
                "active": episode.active(self.upstream.elapsed),
            },
            "faster_than_idealized": FASTER_THAN_IDEALIZED,
            "traffic": {
                "sent": counts.sent,
                "completed": counts.completed,
                "in_flight": counts.in_flight,
                "failures": dict(counts.failures),
            },
        }

    def _what(self) -> list[str]:
        episode = self.upstream.provider.episode
        return [
            "No model runs here: a replayed provider answers in real time, through this gateway.",
            (
                "A reply takes the provider's published denoised runtime of 2022 for its size, "
                "times a measured contention factor drawn at random."
            ),
            (
                f"Scripted: {episode.model} is {episode.factor:g} times slower for {episode.lasts:g} s "
                f"in every {episode.every:g} s."
            ),
            f"Measured, not scripted: {FASTER_THAN_IDEALIZED} was served faster than its idealized runtime.",
            (
                f"Arrivals follow a production trace at {self.speed:g} times its speed, with at most "
                f"{MAX_IN_FLIGHT} requests open; {STREAMED_SHARE:.0%} of them stream."
            ),
        ]
