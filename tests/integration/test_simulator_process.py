"""`python -m simulator` as a process: its first line, its options, its end; and its command line's complaints."""

import asyncio
import json
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from azure.ai.voicelive.aio import connect
from azure.core.credentials import AzureKeyCredential
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from simulator.voicelive.audio import OUTPUT_FORMATS
from simulator.voicelive.cli import main
from simulator.voicelive.speech import Speech, SpeechFailed
from tests.unit.simulator.voicelive.driving import tone, write_wav

ROOT = Path(__file__).parents[2]


@asynccontextmanager
async def running(*options: str) -> AsyncIterator[tuple[dict[str, Any], asyncio.subprocess.Process]]:
    """A simulator process on a free port, and its first line."""
    command = [sys.executable, "-m", "simulator", "--port", "0", *options]
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=asyncio.subprocess.PIPE)
    try:
        assert process.stdout is not None
        async with asyncio.timeout(30):
            yield json.loads(await process.stdout.readline()), process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
            await process.communicate()


def connecting(endpoint: str, key: str = "k", **options: Any) -> Any:
    return connect(credential=AzureKeyCredential(key), endpoint=endpoint, model="gpt-4.1-mini", **options)


async def test_the_first_line_says_where_it_listens_and_sigterm_ends_it() -> None:
    async with running("--api-key", "secret") as (first, process):
        assert first["event"] == "simulator.listening"
        assert first["endpoint"] == f"ws://{first['host']}:{first['port']}"
        async with connecting(first["endpoint"], "secret") as connection:
            assert (await connection.recv()).type == "session.created"
        process.send_signal(signal.SIGTERM)
        output, _ = await process.communicate()
        assert process.returncode == 0
    logged = [json.loads(line) for line in output.splitlines()]
    assert [line["event"] for line in logged] == ["session opened", "session closed"]


async def test_options_shape_the_sessions(tmp_path: Path) -> None:
    faults = tmp_path / "faults.json"
    faults.write_text('{"sessions": [{"kind": "warning", "session": "every", "on": "session.updated"}]}')
    options = ["--profile", "native", "--pace", "instant", "--faults", f"@{faults}", "--mode", "say", "--say", "Hello."]
    async with running(*options) as (first, _):
        async with connecting(first["endpoint"]) as connection:
            assert (await connection.recv()).session.voice["name"] == "alloy"
            await connection.session.update(session={})
            assert [(await connection.recv()).type for _ in range(2)] == ["session.updated", "warning"]
            await connection.response.create()
            while (event := await connection.recv()).type != "response.done":
                pass
            assert event.response.output[0].content[0].transcript == "Hello."


async def test_a_scenario_file_is_carried_out() -> None:
    scenario = ROOT / "simulator" / "scenarios" / "weather.yaml"
    async with running("--mode", "script", "--script", str(scenario), "--pace", "instant") as (first, _):
        async with connecting(first["endpoint"]) as connection:
            said = [await answer(connection)]
            done = await answer(connection, "response.function_call_arguments.done")
            await connection.recv()  # response.output_item.done
            await connection.recv()  # response.done
            output = {"type": "function_call_output", "call_id": done.call_id, "output": "light rain"}
            await connection.send({"type": "conversation.item.create", "item": output})
            said += [await answer(connection), await answer(connection)]
    assert done.arguments == '{"city": "London"}'
    assert [event.response.output[0].content[0].transcript for event in said] == [
        "Hello. For which city do you want the weather?",
        "It will rain in London all day.",
        "You are welcome. Goodbye.",
    ]


async def test_sessions_share_the_script_and_are_revealed_when_told_to() -> None:
    options = ["--mode", "say", "--say", "One.", "--say", "Two.", "--pace", "instant"]
    async with running(*options, "--script-scope", "process", "--reveal") as (first, _):
        for _ in range(2):
            async with connecting(first["endpoint"]) as connection:
                await answer(connection)
        async with aiohttp.ClientSession(f"http://127.0.0.1:{first['port']}") as control:
            async with control.get("/simulator/sessions") as response:
                shown = (await response.json())["sessions"]
    assert [session["said"] for session in shown] == [["One."], ["Two."]]


async def answer(connection: Any, last: str = "response.done") -> Any:
    """Asks for a response; its event of type `last`."""
    await connection.response.create()
    while (event := await connection.recv()).type != last:
        pass
    return event


async def test_a_certificate_makes_it_wss(tmp_path: Path) -> None:
    cert, key = certificate(tmp_path)
    async with running("--tls-cert", str(cert), "--tls-key", str(key)) as (first, _):
        assert first["endpoint"].startswith("wss://")
        trusting = {"vendor_options": {"ssl": ssl.create_default_context(cafile=cert)}}
        async with connecting(first["endpoint"], connection_options=trusting) as connection:
            assert (await connection.recv()).type == "session.created"


async def test_the_sdk_trusts_the_certificate_that_the_environment_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cert, key = certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(cert))
    async with running("--tls-cert", str(cert), "--tls-key", str(key)) as (first, _):
        client = [sys.executable, "-c", _SDK_CLIENT, first["endpoint"]]
        process = await asyncio.create_subprocess_exec(*client, stdout=asyncio.subprocess.PIPE)
        output, _ = await process.communicate()
    assert output == b"session.created\n"


# aiohttp makes its default TLS context when it is imported, so the variable must be there before.
_SDK_CLIENT = """
import asyncio, sys
from azure.ai.voicelive.aio import connect
from azure.core.credentials import AzureKeyCredential

async def main():
    async with connect(credential=AzureKeyCredential("k"), endpoint=sys.argv[1], model="gpt-4.1-mini") as connection:
        print((await connection.recv()).type)

asyncio.run(main())
"""


async def test_a_recording_is_played_sample_for_sample(tmp_path: Path) -> None:
    samples = tone(1000, 24000)
    wav = write_wav(tmp_path / "greeting.wav", samples, 24000)
    async with running("--mode", "play", "--play", str(wav), "--pace", "instant") as (first, _):
        async with connecting(first["endpoint"]) as connection:
            await connection.response.create()
            heard = b""
            while (event := await connection.recv()).type != "response.done":
                heard += event.delta if event.type == "response.audio.delta" else b""
    assert heard == samples.tobytes()
    assert event.response.output[0].content[0].transcript == "greeting"


async def test_a_monologue_goes_on_by_itself_and_the_trace_holds_it(tmp_path: Path) -> None:
    wav, trace = write_wav(tmp_path / "short.wav", tone(300)), tmp_path / "trace"
    options = ["--mode", "play", "--play", str(wav), "--monologue", "--pace", "instant", "--trace", str(trace)]
    before_ns = time.time_ns()
    async with running(*options) as (first, _):
        async with connecting(first["endpoint"]) as connection:
            await connection.session.update(session={"output_audio_format": "g711_ulaw"})
            received: list[Any] = []
            while [event.type for event in received].count("response.done") < 3:
                received.append(await connection.recv())
    lines = [line.split(b" ", 3) for line in trace.read_bytes().splitlines()]
    times = [int(line[0]) for line in lines]
    assert before_ns < times[0] and times == sorted(times) and times[-1] < time.time_ns()
    assert len({line[1] for line in lines}) == 1
    assert [json.loads(line[3])["type"] for line in lines if line[2] == b"in"] == ["session.update"]
    sent = [json.loads(line[3])["event_id"] for line in lines if line[2] == b"out"]
    assert sent[: len(received)] == [event.event_id for event in received]


def test_help_names_every_mode() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "simulator", "--help"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=30
    )
    assert "parrot|say|play|script" in done.stdout


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--mode", "say"], "--mode say and --say belong together"),
        (["--say", "Hello."], "--mode say and --say belong together"),
        (["--mode", "script"], "--mode script and --script belong together"),
        (["--mode", "script", "--script", "/nonexistent.yaml"], "nonexistent.yaml"),
        (["--mode", "play"], "--mode play and --play belong together"),
        (["--mode", "play", "--play", "/nonexistent.wav"], "nonexistent.wav"),
        (["--mode", "play", "--play", __file__], "file does not start with RIFF id"),
        (["--monologue"], "--monologue needs something to say"),
        (["--trace", "/nonexistent/trace"], "/nonexistent/trace"),
        (["--faults", '{"sessions": [{}]}'], "missing required field `kind`"),
        (["--faults", "@/nonexistent.json"], "nonexistent.json"),
        (["--tls-cert", __file__], "--tls-cert and --tls-key belong together"),
        (["--tls-cert", __file__, "--tls-key", __file__], "cannot use this certificate and key"),
        (["--realtime-factor", "0"], "0"),
        (["--profile", "quantum"], "quantum"),
    ],
)
def test_bad_options_are_refused_with_the_reason(options: list[str], complaint: str) -> None:
    result = CliRunner().invoke(main, ["--port", "0", *options])
    assert result.exit_code != 0
    assert complaint in result.output


async def test_a_missing_espeak_names_the_package() -> None:
    speech = Speech(command="espeak-ng-that-is-not-there")
    with pytest.raises(SpeechFailed, match="apt-get install espeak-ng"):
        await speech.render("Hello.", OUTPUT_FORMATS["pcm16"])


async def test_a_failing_synthesiser_is_reported_without_the_text(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\ncat >/dev/null\nexit 3\n")
    broken.chmod(0o755)
    with pytest.raises(SpeechFailed) as failure:
        await Speech(command=str(broken)).render("my secret", OUTPUT_FORMATS["pcm16"])
    assert "exit status 3" in str(failure.value) and "secret" not in str(failure.value)


async def test_a_text_is_synthesised_once(tmp_path: Path) -> None:
    counting = tmp_path / "counting"
    counting.write_text(f'#!/bin/sh\necho x >> {tmp_path}/runs\nexec espeak-ng "$@"\n')
    counting.chmod(0o755)
    speech = Speech(command=str(counting))
    first = await speech.render("Hello.", OUTPUT_FORMATS["pcm16"])
    assert await speech.render("Hello.", OUTPUT_FORMATS["pcm16"]) == first
    assert (tmp_path / "runs").read_text() == "x\n"


def certificate(directory: Path) -> tuple[Path, Path]:
    """A self-signed certificate for 127.0.0.1 and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    cert_path, key_path = directory / "cert.pem", directory / "key.pem"
    cert_path.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    key_path.write_bytes(key.private_bytes(encoding, form, serialization.NoEncryption()))
    return cert_path, key_path
