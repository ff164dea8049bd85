"""The floor: what pjsip and pjmedia cost by themselves. The bridge connects each call to itself, everything in C.

Per call and 20 ms: RTP in, jitter buffer, PCMU decoder, bridge, PCMU encoder, RTP out. The same as in the worker:
everything in `endpoint.py`. Different: no audio port, no WebSocket, no model; no Python once a call is answered.
"""

import click
import pjsua2 as pj
import uvloop

from bench.baselines.endpoint import Call, say, serve


class EchoCall(Call):
    """A call whose caller hears itself."""

    def connect(self, audio: pj.AudioMedia) -> None:
        """Connects the call to itself."""
        audio.startTransmit(audio)


@click.command()
@click.option("--calls", type=click.IntRange(1, 500), required=True, help="Calls at once; one more gets 503.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, show_default=True, help="SIP port; 0 is a free one.")
def main(calls: int, port: int) -> None:
    """Answer every call and send back what it says; pjmedia alone, until SIGTERM."""
    answered = uvloop.run(serve("loopback", calls, port, EchoCall))
    say("baseline.ended", calls=answered)


if __name__ == "__main__":
    main()
