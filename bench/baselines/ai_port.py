"""pjproject's own way to a model: AudioMediaAiPort, a WebSocket client inside pjmedia, everything in C.

The port speaks OpenAI-Realtime JSON and nothing else: pcm16 at 24 kHz both ways, caller audio in messages of 100 ms,
half a second kept back before an answer plays, a ring of 10 s whose oldest audio gives way. On `session.created` it
sends a fixed session.update (voice alloy, server_vad). It cannot flush, so there is no barge-in. All of its WebSockets
live in pjsip's one thread.

The same as in the worker: everything in `endpoint.py`, the bridge at 8 kHz included, and the Voice Live URL.
Different: the bridge resamples, 8 to 24 kHz and back; no Python once a call is answered.

Seen in pjproject 2.17: when the other side is slow to read, the WebSocket overwrites the frame it is sending, the other
side closes the session, and the port polls the closed socket with all of a core until the call ends. A measurement in
which a session was closed (GET /simulator/sessions) says nothing about density.
"""

from functools import partial

import click
import pjsua2 as pj
import uvloop

from bench.baselines.endpoint import Account, Call, say, serve

QUALITY = 4
"""pjmedia's resampler: a filter of 8 ms that costs a third of the default's (quality 8, 16 ms)."""

PATH = "/voice-live/realtime?api-version=2025-10-01&model=gpt-4o-realtime-preview"

TOKEN = "baseline"
"""Sent as `Authorization: Bearer`; the port refuses to go without one, the simulator takes any."""


class AiCall(Call):
    """A call and its port, whose session is opened while the call is answered."""

    def __init__(self, account: Account, pjsip_call: int, url: str) -> None:
        super().__init__(account, pjsip_call)
        self._port = pj.AudioMediaAiPort()  # not a subclass: its events would call into Python
        self._port.createPort(pj.AiMediaPortParam())
        self._port.connect(url, TOKEN)

    def connect(self, audio: pj.AudioMedia) -> None:
        """Connects the call with the port, both ways."""
        audio.startTransmit(self._port)
        self._port.startTransmit(audio)

    def release(self) -> None:
        """Closes the session and destroys the port."""
        pj.AudioMediaAiPort.__swig_destroy__(self._port)


@click.command()
@click.option("--calls", type=click.IntRange(1, 500), required=True, help="Calls at once; one more gets 503.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, show_default=True, help="SIP port; 0 is a free one.")
@click.option("--endpoint", metavar="WS_URL", required=True, help="The model's side: ws://HOST:PORT of the simulator.")
def main(calls: int, port: int, endpoint: str) -> None:
    """Answer every call with pjproject's AudioMediaAiPort, until SIGTERM."""
    new_call = partial(AiCall, url=endpoint.rstrip("/") + PATH)
    answered = uvloop.run(serve("ai_port", calls, port, new_call, quality=QUALITY))
    say("baseline.ended", calls=answered)


if __name__ == "__main__":
    main()
