"""HTTP tools against a real server: what arrives there, and what of its answers reaches the model."""

import asyncio
import gzip
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from pydantic import SecretStr
from structlog.testing import capture_logs

from shared.agents.facts import CallFacts
from shared.agents.model import Agent, HttpTool
from worker.tools.context import ToolContext
from worker.tools.runner import ToolResult, ToolRunner

CARD = "4111222233334444"
FACTS = CallFacts("1", "2", {}, "", datetime(2026, 1, 1, tzinfo=UTC))
CONTEXT = ToolContext("call-1", FACTS, {"<digits-1>": CARD})


class Service:
    """A web service that answers as it is told, and keeps what it was asked."""

    def __init__(self) -> None:
        self.url = ""
        self.requests: list[web.Request] = []
        self.bodies: list[str] = []
        self.asked = asyncio.Event()
        self.answer = web.Response(text="fine")
        self.hang = False

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        self.bodies.append(await request.text())
        self.asked.set()
        if self.hang:
            await asyncio.Event().wait()
        return self.answer


@asynccontextmanager
async def serving(service: Service, tls: ssl.SSLContext | None = None) -> AsyncIterator[Service]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", service.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
        service.url = "{}://{}:{}".format("https" if tls else "http", *runner.addresses[0])
        yield service
    finally:
        await runner.cleanup()


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    async with serving(Service()) as service:
        yield service


@pytest.fixture
async def runner() -> AsyncIterator[ToolRunner]:
    runner = ToolRunner({})
    await runner.start()
    yield runner
    await runner.stop()


async def run(runner: ToolRunner, url: str, arguments: dict[str, Any], **fields: Any) -> ToolResult:
    tool = HttpTool(type="http_request", name="lookup", description="d", url=url, **fields)
    agent = Agent(name="reception", model="gpt-4.1-mini", tools=(tool,))
    return await runner.run(agent, "lookup", arguments, CONTEXT)


async def test_the_request_carries_arguments_headers_and_digits(service: Service, runner: ToolRunner) -> None:
    service.answer = web.json_response({"state": "sent", "city": "Köln"})
    result = await run(
        runner,
        f"{service.url}/customers/{{name}}/pay?lang=en",
        {"name": "A/B c&d", "card": "<digits-1>"},
        method="POST",
        headers={"Authorization": SecretStr("Bearer top-secret")},
    )
    assert result == ToolResult('{"state":"sent","city":"Köln"}')
    (request,) = service.requests
    assert (request.method, request.raw_path) == ("POST", "/customers/A%2FB%20c%26d/pay?lang=en")
    assert request.headers["Authorization"] == "Bearer top-secret"
    assert json.loads(service.bodies[0]) == {"card": CARD}


async def test_a_way_up_is_refused_before_anything_is_sent(service: Service, runner: ToolRunner) -> None:
    result = await run(runner, f"{service.url}/customers/{{name}}/pay", {"name": "../../admin"})
    assert result.failed
    assert "name must not be empty" in result.output
    assert service.requests == []


async def test_further_arguments_of_a_get_are_its_query(service: Service, runner: ToolRunner) -> None:
    assert await run(runner, f"{service.url}/find", {"q": "a&b=c", "n": 3}) == ToolResult("fine")
    assert dict(service.requests[0].query) == {"q": "a&b=c", "n": "3"}


@pytest.mark.parametrize(
    ("answer", "output"),
    [
        (web.Response(text="Grüße", content_type="text/plain", charset="iso-8859-1"), "Grüße"),
        (web.Response(body=b"fine\xff", headers={"Content-Type": "text/plain; charset=nonsense"}), "fine\ufffd"),
        (web.Response(text="[1, 2]", content_type="application/problem+json"), "[1,2]"),
        (web.Response(status=204), '{"status":204}'),
    ],
    ids=["text", "unknown charset", "json by another name", "empty"],
)
async def test_json_and_text_reach_the_model(
    service: Service, runner: ToolRunner, answer: web.Response, output: str
) -> None:
    service.answer = answer
    assert await run(runner, service.url, {}) == ToolResult(output)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (web.json_response({"why": "unknown"}, status=404), {"error": "HTTP 404", "body": '{"why": "unknown"}'}),
        (web.Response(text="x" * 9_000, status=500), {"error": "HTTP 500", "body": "x" * 2000}),
        (web.Response(body=b"\x00\x01", status=500), {"error": "HTTP 500"}),
        (
            web.Response(status=302, headers={"Location": "http://127.0.0.1:9/"}),
            {"error": "HTTP 302: a redirect, which is not followed"},
        ),
        (web.Response(body=b"\x89PNG", content_type="image/png"), {"error": "the answer is neither JSON nor text"}),
        (web.Response(text="{", content_type="application/json"), {"error": "the answer is not valid JSON"}),
        (web.Response(text="[" * 60_000, content_type="application/json"), {"error": "the answer is not valid JSON"}),
        (web.Response(text="x" * 65_537), {"error": "the answer is larger than 65536 bytes"}),
        (
            web.Response(
                body=gzip.compress(b"x" * 9), headers={"Content-Encoding": "gzip", "Content-Type": "text/plain"}
            ),
            {"error": "the answer is compressed"},
        ),
    ],
    ids=["404", "long 500", "binary 500", "redirect", "picture", "bad json", "deep json", "large", "compressed"],
)
async def test_every_other_answer_is_an_error_the_model_can_read(
    service: Service, runner: ToolRunner, answer: web.Response, error: dict[str, str]
) -> None:
    service.answer = answer
    result = await run(runner, service.url, {})
    assert result.failed
    assert json.loads(result.output) == error
    assert len(service.requests) == 1


async def test_an_endless_answer_is_read_no_further_than_allowed(runner: ToolRunner) -> None:
    class Endless(Service):
        async def handle(self, request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse(headers={"Content-Type": "text/plain"})
            await response.prepare(request)
            while True:
                await response.write(b"x" * 1000)

    async with serving(Endless()) as service:
        result = await run(runner, service.url, {}, max_bytes=5000)
    assert json.loads(result.output) == {"error": "the answer is larger than 5000 bytes"}


async def test_secrets_and_digits_that_come_back_are_not_shown(service: Service, runner: ToolRunner) -> None:
    headers = {"X-Key": SecretStr("top-secret"), "X-Plain": "plain"}
    service.answer = web.json_response({"headers": ["top-secret", "plain"], "card": int(CARD)})
    result = await run(runner, service.url, {}, headers=headers)
    assert json.loads(result.output) == {"headers": ["***", "plain"], "card": "<digits-1>"}
    service.answer = web.Response(text=f"bad key top-secret for {CARD}", status=403)
    result = await run(runner, service.url, {}, headers=headers)
    assert json.loads(result.output) == {"error": "HTTP 403", "body": "bad key *** for <digits-1>"}


async def test_a_service_that_does_not_answer_in_time_is_given_up(service: Service, runner: ToolRunner) -> None:
    service.hang = True
    result = await run(runner, service.url, {}, timeout_s=0.2)
    assert result.failed
    assert "no answer within 0.2 s" in result.output


async def test_a_call_that_ends_takes_its_request_along(service: Service, runner: ToolRunner) -> None:
    service.hang = True
    task = asyncio.create_task(run(runner, service.url, {}))
    await service.asked.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    service.hang = False
    assert await run(runner, service.url, {}) == ToolResult("fine")


async def test_a_service_that_is_not_there_is_an_error_without_addresses(
    runner: ToolRunner, unused_tcp_port: int
) -> None:
    with capture_logs() as logs:
        result = await run(runner, f"http://127.0.0.1:{unused_tcp_port}/{{a}}", {"a": CARD})
    assert result == ToolResult('{"error":"the service cannot be reached"}', failed=True)
    assert [line["reason"] for line in logs] == ["ClientConnectorError"]
    assert CARD not in str(logs)


async def test_cookies_of_one_call_are_not_sent_for_another(service: Service, runner: ToolRunner) -> None:
    service.answer = web.Response(text="fine", headers={"Set-Cookie": "session=1; Path=/"})
    assert await run(runner, service.url, {}) == ToolResult("fine")
    service.answer = web.Response(text="again")
    assert await run(runner, service.url, {}) == ToolResult("again")
    assert "Cookie" not in service.requests[1].headers


async def test_proxies_of_the_environment_are_not_used(
    service: Service, runner: ToolRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert await run(runner, service.url, {}) == ToolResult("fine")


async def test_a_certificate_nobody_vouches_for_is_refused(runner: ToolRunner, tmp_path: Path) -> None:
    async with serving(Service(), self_signed(tmp_path)) as service:
        result = await run(runner, service.url, {}, headers={"X-Key": SecretStr("top-secret")})
    assert result == ToolResult('{"error":"the service cannot be reached"}', failed=True)
    assert service.requests == []


def self_signed(directory: Path) -> ssl.SSLContext:
    """Returns a server's TLS context with a certificate for 127.0.0.1 of its own making."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now - timedelta(1), now + timedelta(1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = directory / "server.pem"
    pem.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + certificate.public_bytes(Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    return context
