"""What voicepool's worker is compared with: other ways to get the same calls through pjsua2, under the same load.

Each is a program of its own that answers every INVITE; see its module for what it is and what is the same as in the
worker.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Baseline:
    """How a baseline is started."""

    module: str
    what: str
    """In a few words, for tables."""
    needs_endpoint: bool = True
    """Whether it talks to the model."""
    takes_uplink_ms: bool = False
    most_calls: int = 500
    """Beyond these it does not work."""


BASELINES = {
    "loopback": Baseline("bench.baselines.loopback", "RTP looped back inside pjmedia, no model", needs_endpoint=False),
    "ai_port": Baseline("bench.baselines.ai_port", "pjproject's AudioMediaAiPort, PCM16 24 kHz, 100 ms", most_calls=5),
    "python_port": Baseline(
        "bench.baselines.python_port", "AudioMediaPort with Python callbacks", takes_uplink_ms=True
    ),
}
