"""The simulator's command line: reads the options, serves until told to stop. Does not configure anything else."""

import asyncio
import json
import signal
import ssl
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click
import uvloop

from shared import logs
from simulator.voicelive.behaviour import DEFAULT_HEARD, Behaviour
from simulator.voicelive.faults import BadFault, FaultOrder, parse_order
from simulator.voicelive.scenario import PARROT, BadScenario, Scenario, load, playing, saying
from simulator.voicelive.server import Server, ServerSettings
from simulator.voicelive.speech import Speech, SpeechFailed
from simulator.voicelive.trace import Trace

_MODES = ["parrot", "say", "play", "script"]
_POSITIVE = click.FloatRange(min=0, min_open=True)


@click.command(context_settings={"show_default": True})
@click.option("--host", default="127.0.0.1", help="Address to listen on.")
@click.option("--port", default=8765, type=click.IntRange(0, 65535), help="Port to listen on; 0 takes a free one.")
@click.option("--mode", default="parrot", type=click.Choice(_MODES), help="What the model says.")
@click.option("--say", "texts", multiple=True, help="A text for --mode say; give several to have them said in turn.")
@click.option(
    "--play",
    "files",
    multiple=True,
    type=click.Path(path_type=Path),
    help="A WAV file for --mode play (16-bit mono, 8000 or 24000 Hz); give several to have them played in turn.",
)
@click.option("--script", type=click.Path(path_type=Path), help="The scenario file of --mode script (YAML).")
@click.option(
    "--script-scope",
    default="session",
    type=click.Choice(["session", "process"]),
    help="Whether each session begins the scenario anew, or goes on where the one before stopped.",
)
@click.option(
    "--reveal",
    is_flag=True,
    help="For tests: GET /simulator/sessions shows the conversation, instructions and settings. They hold words!",
)
@click.option(
    "--monologue",
    is_flag=True,
    help="For load tests: the model speaks all the time, unasked, and does not listen. Not with --mode parrot.",
)
@click.option("--profile", default="auto", type=click.Choice(["auto", "native", "cascaded"]), help="Kind of model.")
@click.option("--pace", default="auto", type=click.Choice(["auto", "azure", "openai", "instant"]), help="Audio pace.")
@click.option("--first-audio", type=click.FloatRange(min=0), help="Seconds from the caller's last word to first audio.")
@click.option(
    "--jitter",
    default=0.0,
    type=click.FloatRange(min=0, max=0.15),
    help="speech_started and each answer's first audio come up to so many seconds late, at random.",
)
@click.option("--realtime-factor", type=_POSITIVE, help="How many times faster than real time audio is sent.")
@click.option(
    "--cancel-reason",
    default="client_cancelled",
    type=click.Choice(["client_cancelled", "turn_detected"]),
    help="How an interrupted response ends.",
)
@click.option(
    "--item-done", default="auto", type=click.Choice(["auto", "on", "off"]), help="Send conversation.item.done."
)
@click.option("--heard", default=DEFAULT_HEARD, help="The transcript of whatever the caller says.")
@click.option("--max-session", default=3600.0, type=_POSITIVE, help="Seconds after which a session is closed.")
@click.option("--api-key", envvar="SIMULATOR_API_KEY", help="The only key to accept; any key when not given.")
@click.option("--faults", help="A fault order as JSON, or @FILE with one: what POST /simulator/faults takes.")
@click.option("--voice", default="en-us", help="espeak-ng voice.")
@click.option("--tls-cert", type=click.Path(exists=True, dir_okay=False), help="Certificate chain (PEM), for wss://.")
@click.option("--tls-key", type=click.Path(exists=True, dir_okay=False), help="The certificate's key (PEM).")
@click.option(
    "--trace",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Append every message of every session to this file, with its time. It contains the audio and the words!",
)
@click.option("--log-level", default="INFO", type=click.Choice(["DEBUG", "INFO", "WARNING", "ERROR"]))
def main(**options: Any) -> None:
    """A local Azure Voice Live for azure-ai-voicelive to connect to: no account, no cloud, no model.

    The first line on stdout is JSON and says where it listens. Control API: GET /simulator/sessions, and GET, POST,
    DELETE /simulator/faults on the same port.
    """
    settings = ServerSettings(
        host=options["host"],
        port=options["port"],
        api_key=options["api_key"],
        behaviour=_behaviour(options),
        faults=_faults(options["faults"]),
        voice=options["voice"],
        tls=_tls(options["tls_cert"], options["tls_key"]),
        trace=_trace(options["trace"]),
    )
    logs.configure(options["log_level"])
    try:
        with settings.trace or nullcontext():
            uvloop.run(_serve(settings))
    except OSError as error:
        raise click.ClickException(f"cannot listen on {settings.host}:{settings.port}: {error.strerror}") from error


async def _serve(settings: ServerSettings) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with Server(settings) as server:
        listening = {"host": settings.host, "port": server.port, "endpoint": server.url}
        click.echo(json.dumps({"event": "simulator.listening", **listening}))
        await stop.wait()


def _behaviour(options: dict[str, Any]) -> Behaviour:
    return Behaviour(
        scenario=_scenario(options),
        profile=options["profile"],
        pace=options["pace"],
        first_audio_s=options["first_audio"],
        jitter_s=options["jitter"],
        realtime_factor=options["realtime_factor"],
        cancel_reason=options["cancel_reason"],
        item_done=options["item_done"],
        heard=options["heard"],
        max_session_s=options["max_session"],
        monologue=options["monologue"],
        script_scope=options["script_scope"],
        reveal=options["reveal"],
    )


def _scenario(options: dict[str, Any]) -> Scenario:
    mode = options["mode"]
    given = {"say": options["texts"], "play": options["files"], "script": options["script"]}
    for name, value in given.items():
        if (mode == name) != bool(value):
            raise click.UsageError(f"--mode {name} and --{name} belong together")
    if mode == "parrot" and options["monologue"]:
        raise click.UsageError("--monologue needs something to say: --mode say, play or script")
    if mode in ("say", "script"):
        try:
            Speech(options["voice"]).check()
        except SpeechFailed as error:
            raise click.ClickException(str(error)) from error
    try:
        match mode:
            case "say":
                return saying(options["texts"])
            case "play":
                return playing(options["files"])
            case "script":
                return load(options["script"])
            case _:
                return PARROT
    except BadScenario as error:
        raise click.BadParameter(str(error), param_hint=f"--{mode}") from error


def _faults(given: str | None) -> FaultOrder:
    if given is None:
        return FaultOrder()
    try:
        return parse_order(Path(given[1:]).read_text() if given.startswith("@") else given)
    except (OSError, BadFault) as error:
        raise click.BadParameter(str(error), param_hint="--faults") from error


def _trace(path: Path | None) -> Trace | None:
    try:
        return None if path is None else Trace(path)
    except OSError as error:
        raise click.BadParameter(f"cannot write {path}: {error.strerror}", param_hint="--trace") from error


def _tls(cert: str | None, key: str | None) -> ssl.SSLContext | None:
    if (cert is None) != (key is None):
        raise click.UsageError("--tls-cert and --tls-key belong together")
    if cert is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(cert, key)
    except (OSError, ssl.SSLError) as error:
        raise click.BadParameter(f"cannot use this certificate and key: {error}", param_hint="--tls-cert") from error
    return context
