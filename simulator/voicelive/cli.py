"""The simulator's command line: reads the options, serves until told to stop. Does not configure anything else."""

import asyncio
import json
import signal
import ssl
from pathlib import Path
from typing import Any

import click

from shared import logs
from simulator.voicelive.behaviour import DEFAULT_HEARD, Behaviour
from simulator.voicelive.faults import BadFault, FaultOrder, parse_order
from simulator.voicelive.scenario import PARROT, BadScenario, Scenario, load, saying
from simulator.voicelive.server import Server, ServerSettings
from simulator.voicelive.speech import Speech, SpeechFailed

_POSITIVE = click.FloatRange(min=0, min_open=True)


@click.command(context_settings={"show_default": True})
@click.option("--host", default="127.0.0.1", help="Address to listen on.")
@click.option("--port", default=8765, type=click.IntRange(0, 65535), help="Port to listen on; 0 takes a free one.")
@click.option("--mode", default="parrot", type=click.Choice(["parrot", "say", "script"]), help="What the model says.")
@click.option("--say", "texts", multiple=True, help="A text for --mode say; give several to have them said in turn.")
@click.option("--script", type=click.Path(path_type=Path), help="The scenario file of --mode script (YAML).")
@click.option("--profile", default="auto", type=click.Choice(["auto", "native", "cascaded"]), help="Kind of model.")
@click.option("--pace", default="auto", type=click.Choice(["auto", "azure", "openai", "instant"]), help="Audio pace.")
@click.option("--first-audio", type=click.FloatRange(min=0), help="Seconds from the caller's last word to first audio.")
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
    )
    logs.configure(options["log_level"])
    try:
        asyncio.run(_serve(settings))
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
        scenario=_scenario(options["mode"], options["texts"], options["script"], options["voice"]),
        profile=options["profile"],
        pace=options["pace"],
        first_audio_s=options["first_audio"],
        realtime_factor=options["realtime_factor"],
        cancel_reason=options["cancel_reason"],
        item_done=options["item_done"],
        heard=options["heard"],
        max_session_s=options["max_session"],
    )


def _scenario(mode: str, texts: tuple[str, ...], script: Path | None, voice: str) -> Scenario:
    if (mode == "say") != bool(texts):
        raise click.UsageError("--mode say and --say belong together")
    if (mode == "script") != (script is not None):
        raise click.UsageError("--mode script and --script belong together")
    if mode != "parrot":
        try:
            Speech(voice).check()
        except SpeechFailed as error:
            raise click.ClickException(str(error)) from error
    if script is None:
        return saying(texts) if texts else PARROT
    try:
        return load(script)
    except BadScenario as error:
        raise click.BadParameter(str(error), param_hint="--script") from error


def _faults(given: str | None) -> FaultOrder:
    if given is None:
        return FaultOrder()
    try:
        return parse_order(Path(given[1:]).read_text() if given.startswith("@") else given)
    except (OSError, BadFault) as error:
        raise click.BadParameter(str(error), param_hint="--faults") from error


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
