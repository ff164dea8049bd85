"""The HTTP API as a process, over a real Redis: who may do what, what is answered, what is logged."""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from jsonschema import Draft202012Validator
from multidict import CIMultiDictProxy
from redis.asyncio import Redis

from admin.api.access import FAILURES_BURST, REQUESTS_BURST
from admin.api.acting import DESTINATION_MAX
from admin.api.frame import BODY_MAX
from admin.api.tokens import Role, mint
from shared.control import keys
from shared.control.connection import ask
from shared.control.events import EventName, Events
from shared.messages import CommandState
from tests.integration.admin.pool import FRONT, NUMBER, ONE, OTHER, fill, obeying
from tests.redis_server import RedisServer

READ, READ_LINE = mint("reader", Role.READ)
OPERATE, OPERATE_LINE = mint("operator", Role.OPERATE)

LONG_URI = "sip:desk@pbx.example?Subject=".ljust(DESTINATION_MAX, "x")

START_S = 30.0

VOICEPOOL = str(Path(sys.executable).with_name("voicepool"))


@dataclass
class Api:
    """A running API and what it has logged."""

    url: str
    process: asyncio.subprocess.Process
    session: aiohttp.ClientSession
    log: list[dict[str, Any]] = field(default_factory=list)
    _logged: asyncio.Event = field(default_factory=asyncio.Event)

    async def ask(
        self, method: str, path: str, body: Any = None, *, token: str | None = READ, **headers: str
    ) -> tuple[int, Any, CIMultiDictProxy[str]]:
        """Returns status, body and headers of a response."""
        authorization = {"Authorization": f"Bearer {token}"} if token else {}
        sent = authorization | {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.session.request(method, self.url + path, json=body, headers=sent) as response:
            return response.status, await response.json(content_type=None), response.headers

    async def get(self, path: str, **given: Any) -> Any:
        """Returns the body of a good response."""
        status, body, _ = await self.ask("GET", path, **given)
        assert status == 200, body
        return body

    def audit(self) -> list[tuple[Any, ...]]:
        """Returns who did what to what, and what came of it."""
        lines = [line for line in self.log if line["event"] == "admin.audit"]
        return [tuple(line.get(name, "") for name in ("token", "operation", "target", "outcome")) for line in lines]

    async def read_log(self) -> None:
        """Keeps what it logs."""
        assert self.process.stdout
        async for line in self.process.stdout:
            self.log.append(json.loads(line))
            self._logged.set()

    async def await_audit(self, entry: tuple[Any, ...]) -> None:
        """Returns when it has been logged: the log may come after the response."""
        async with asyncio.timeout(10):
            while entry not in self.audit():
                self._logged.clear()
                await self._logged.wait()


@contextlib.asynccontextmanager
async def serving(redis_url: str, *options: str, tokens: Path | None = None) -> AsyncIterator[Api]:
    """Runs `voicepool api` on a free port for the block, and sees that SIGTERM ends it well."""
    environment = os.environ | {"REDIS_URL": redis_url, "ADMIN_PORT": "0", "ADMIN_TOKENS_FILE": str(tokens or "")}
    process = await asyncio.create_subprocess_exec(
        VOICEPOOL, "api", *options, env=environment, stdout=subprocess.PIPE, limit=2**20
    )
    assert process.stdout
    try:
        async with asyncio.timeout(START_S), aiohttp.ClientSession() as session:
            line: dict[str, Any] = {}
            while line.get("event") != "admin.listening":
                line = json.loads(await process.stdout.readline())
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as session:
            api = Api(f"http://127.0.0.1:{line['port']}", process, session)
            reading = asyncio.create_task(api.read_log())
            yield api
        if process.returncode is None:
            process.terminate()
        assert await process.wait() == 0
        await reading
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest.fixture
def tokens_file(tmp_path: Path) -> Path:
    """A file with one token of each role."""
    path = tmp_path / "tokens"
    path.write_text(f"# who may\n\n{READ_LINE}\n{OPERATE_LINE}\n")
    return path


@pytest.fixture
async def api(redis_url: str, tokens_file: Path) -> AsyncIterator[Api]:
    """The API with a token of each role, over an empty Redis."""
    async with serving(redis_url, tokens=tokens_file) as running:
        yield running


async def test_everything_that_can_be_looked_at(api: Api, redis: Redis) -> None:
    await fill(redis)
    totals = await api.get("/v1/pool")
    assert (totals["workers"], totals["calls"], totals["capacity"]) == (3, 4, 30)
    assert [worker["worker_id"] for worker in await api.get("/v1/workers")][0:1] == [ONE]
    assert (await api.get("/v1/dispatchers"))[0]["dispatcher_id"] == FRONT
    assert len(await api.get("/v1/calls")) == 4
    assert (await api.get("/v1/calls/0a"))["state"] == "talking"
    assert (await api.get("/v1/calls/5d"))["reason"] == "caller_hangup"
    assert [quota["resource"] for quota in await api.get("/v1/quotas")] == ["", "west"]
    assert (await api.get("/v1/events?count=1"))[0]["event"] == "call.refused"
    assert len(await api.get("/v1/events?since=1h")) > 5
    assert (await api.get("/v1/records?since=1h&result=completed&agent=reception"))[0]["state"] == "ended"
    assert await api.get("/v1/records?result=failed") == []
    figures = await api.get("/metrics-api/active-calls")
    assert figures == {"active_calls": 4, "capacity": 30, "workers": 3, "calls_per_worker": 1.333}


async def test_numbers_and_words_are_for_operators_only_and_reading_them_is_logged(api: Api, redis: Redis) -> None:
    await fill(redis)
    for path in ("/v1/calls", "/v1/calls/0a", "/v1/calls/5d", "/v1/records", "/v1/events", "/v1/workers"):
        text = json.dumps(await api.get(path))
        assert NUMBER not in text
        assert "secret word" not in text
    status, problem, _ = await api.ask("GET", "/v1/records/5d")
    assert (status, problem["type"]) == (403, "urn:voicepool:problem:role")
    record = await api.get("/v1/records/5d", token=OPERATE)
    assert (record["caller"], record["transcript"][0]["text"]) == (NUMBER, "A secret word.")
    await api.await_audit(("operator", "record", record["call_id"], "done"))
    assert ("reader", "record", "5d", "denied") in api.audit()


async def test_what_operators_have_done_is_done_and_logged(api: Api, redis: Redis) -> None:
    await fill(redis)
    async with obeying(redis, ONE, OTHER, FRONT) as pool:
        for path, body in (
            ("/v1/drain", {"targets": ["pod-a-0"]}),
            ("/v1/undrain", {"targets": ["pod-b", "front"], "confirm": True}),
            ("/v1/calls/0a/say", {"text": "Hello."}),
            ("/v1/calls/0a/transfer", {"target": "desk"}),
            ("/v1/calls/0a/transfer", {"target": LONG_URI}),
            ("/v1/calls/1a/hangup", None),
            ("/v1/hangup", {"worker": "pod-b-0", "confirm": True}),
        ):
            status, answer, _ = await api.ask("POST", path, body, token=OPERATE)
            assert status == 200, answer
            outcomes = answer if isinstance(answer, list) else [answer]
            assert {outcome["result"] for outcome in outcomes} == {"done"}
    assert ("say", ONE, "0aaaaaaaaaaaaaaaaaaa", "Hello.") in pool.done
    assert ("transfer", ONE, "0aaaaaaaaaaaaaaaaaaa", "desk") in pool.done
    assert ("transfer", ONE, "0aaaaaaaaaaaaaaaaaaa", LONG_URI) in pool.done
    assert ("hangup", OTHER, "2aaaaaaaaaaaaaaaaaaa", "") in pool.done
    await api.await_audit(("operator", "hangup", "9bbbbbbbbbbbbbbbbbbb", "done"))
    assert ("operator", "drain", ONE, "done") in api.audit()
    assert ("operator", "undrain", FRONT, "done") in api.audit()
    assert "Hello." not in json.dumps(api.log)
    assert "desk" not in json.dumps(api.log)
    assert "pbx.example" not in json.dumps(api.log)


async def test_readers_have_nothing_done(api: Api, redis: Redis) -> None:
    await fill(redis)
    for path in ("drain", "undrain", "hangup", "calls/0a/hangup", "calls/0a/transfer", "calls/0a/say"):
        body = {"all": True, "confirm": True, "text": "a", "target": "a"}
        status, problem, _ = await api.ask("POST", f"/v1/{path}", body)
        assert (status, problem["title"]) == (403, "The token does not allow it"), path
    assert await ask(redis, "KEYS", "{voicepool}:commands:*") == []


async def test_more_than_one_has_to_be_confirmed(api: Api, redis: Redis) -> None:
    await fill(redis)
    for path, body in (
        ("/v1/drain", {"all": True}),
        ("/v1/drain", {"targets": ["pod-a"]}),
        ("/v1/hangup", {"all": True, "confirm": False}),
        ("/v1/hangup", {"calls": ["0a", "1a"]}),
    ):
        status, problem, _ = await api.ask("POST", path, body, token=OPERATE)
        assert (status, problem["type"]) == (409, "urn:voicepool:problem:confirmation")
        assert len(problem["targets"]) >= 2
    assert await ask(redis, "KEYS", "{voicepool}:commands:*") == []


async def test_what_was_not_done_is_a_problem_with_all_outcomes(api: Api, redis: Redis) -> None:
    await fill(redis)
    await ask(redis, "ZINCRBY", keys.workers(), -keys.ms(60), OTHER)
    async with obeying(redis, ONE, hangup=[(CommandState.DONE, "")]):
        status, problem, _ = await api.ask("POST", "/v1/hangup", {"all": True, "confirm": True}, token=OPERATE)
    assert (status, problem["type"]) == (409, "urn:voicepool:problem:failed")
    results = {outcome["target"][0]: outcome["result"] for outcome in problem["outcomes"]}
    assert results == {"0": "done", "1": "done", "2": "failed", "9": "failed"}
    assert "has been silent for 60." in problem["detail"]
    await api.await_audit(("operator", "hangup", "9bbbbbbbbbbbbbbbbbbb", "failed"))


ERRORS: list[tuple[str, str, Any, int, str]] = [
    ("GET", "/v1/calls/x", None, 404, "not-found"),
    ("GET", "/v1/nothing", None, 404, "not-found"),
    ("POST", "/v1/pool", None, 405, "refused"),
    ("POST", "/v1/drain", {"targets": ["pod-"]}, 409, "ambiguous"),
    ("POST", "/v1/drain", {"targets": ["x"]}, 404, "not-found"),
    ("POST", "/v1/drain", {}, 422, "invalid"),
    ("POST", "/v1/drain", {"targets": ["x"], "force": True}, 422, "invalid"),
    ("POST", "/v1/hangup", {"calls": ["x"], "all": True}, 422, "invalid"),
    ("POST", "/v1/calls/0a/say", {"text": " "}, 422, "invalid"),
    ("POST", "/v1/calls/0a/say", {"text": "+4930" * 2000}, 422, "invalid"),
    ("POST", "/v1/calls/0a/transfer", {"target": "sip:+4930" + "0" * DESTINATION_MAX}, 422, "invalid"),
    ("POST", "/v1/calls/0a/say", {"text": "x" * BODY_MAX}, 413, "too-long"),
    ("GET", "/v1/events?since=yesterday", None, 422, "invalid"),
    ("GET", "/v1/records?count=0", None, 422, "invalid"),
]
"""Method, path, body; status and kind of the problem."""


async def test_errors_are_problem_details(api: Api, redis: Redis) -> None:
    await fill(redis)
    for method, path, body, status, kind in ERRORS:
        seen, problem, headers = await api.ask(method, path, body, token=OPERATE)
        assert (seen, problem["status"], problem["type"]) == (status, status, f"urn:voicepool:problem:{kind}"), problem
        assert headers["Content-Type"] == "application/problem+json"
        assert problem["request_id"] == headers["X-Request-Id"]
        assert "+4930" not in json.dumps(problem)


async def test_a_body_that_is_not_announced_as_json_is_told_how(api: Api) -> None:
    headers = {"Authorization": f"Bearer {OPERATE}", "Content-Type": "application/x-www-form-urlencoded"}
    async with api.session.post(f"{api.url}/v1/drain", data='{"all": true}', headers=headers) as response:
        problem = await response.json(content_type=None)
    assert (problem["status"], problem["type"]) == (422, "urn:voicepool:problem:invalid")
    assert problem["detail"] == "body: must be a JSON object, sent with Content-Type: application/json"


async def test_a_request_id_is_taken_over_when_it_is_one(api: Api) -> None:
    assert (await api.ask("GET", "/livez", X_Request_Id="my-id.1"))[2]["X-Request-Id"] == "my-id.1"
    assert (await api.ask("GET", "/livez", X_Request_Id="not one"))[2]["X-Request-Id"] != "not one"


async def test_without_a_good_token_there_is_nothing_but_probes(api: Api) -> None:
    status, problem, headers = await api.ask("GET", "/v1/pool", token=None)
    assert (status, headers["WWW-Authenticate"]) == (401, "Bearer")
    status, problem, headers = await api.ask("GET", "/metrics-api/active-calls", token="vp_wrong")
    assert (status, headers["WWW-Authenticate"]) == (401, 'Bearer error="invalid_token"')
    assert "vp_wrong" not in json.dumps(problem)
    assert await api.get("/livez", token=None) == {"status": "ok"}
    assert await api.get("/readyz", token=None) == {"status": "ready"}
    await api.await_audit(("", "authenticate", "", "denied"))
    assert "vp_wrong" not in json.dumps(api.log)


async def test_bad_tokens_are_slowed_down_and_shut_nobody_else_out(api: Api) -> None:
    statuses = [(await api.ask("GET", "/v1/pool", token="vp_wrong"))[0] for _ in range(FAILURES_BURST + 5)]
    assert statuses.count(401) in (FAILURES_BURST, FAILURES_BURST + 1)
    status, problem, headers = await api.ask("GET", "/v1/pool", token="vp_wrong")
    assert (status, problem["type"]) == (429, "urn:voicepool:problem:too-many")
    assert int(headers["Retry-After"]) >= 1
    await api.get("/v1/pool")


async def test_a_token_is_good_for_so_many_requests(api: Api) -> None:
    asked = [api.ask("GET", "/v1/quotas") for _ in range(REQUESTS_BURST * 2)]
    statuses = [status for status, _, _ in await asyncio.gather(*asked)]
    assert statuses.count(200) >= REQUESTS_BURST
    assert 429 in statuses
    await api.get("/v1/quotas", token=OPERATE)


async def test_a_token_that_is_taken_out_of_the_file_is_good_no_more(api: Api, tokens_file: Path) -> None:
    await api.get("/v1/pool")
    write(tokens_file, f"{OPERATE_LINE}\n")
    assert (await api.ask("GET", "/v1/pool"))[0] == 401
    write(tokens_file, "what is this\n")
    await api.get("/v1/pool", token=OPERATE)
    write(tokens_file, f"{READ_LINE}\n")
    await api.get("/v1/pool")


async def test_without_redis_it_is_not_ready_and_makes_no_figures_up(api: Api, redis_server: RedisServer) -> None:
    redis_server.stop()
    try:
        answers = {
            path: await api.ask("GET", path) for path in ("/livez", "/readyz", "/v1/pool", "/metrics-api/active-calls")
        }
    finally:
        redis_server.restart()
    assert {path: status for path, (status, _, _) in answers.items()} == {
        "/livez": 200, "/readyz": 503, "/v1/pool": 503, "/metrics-api/active-calls": 503,
    }  # fmt: skip
    assert answers["/v1/pool"][1]["type"] == "urn:voicepool:problem:redis-unavailable"


async def test_a_body_without_a_length_has_the_same_limit(api: Api) -> None:
    async def body() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b" " * (BODY_MAX // 2)

    headers = {"Authorization": f"Bearer {OPERATE}", "Content-Type": "application/json"}
    async with api.session.post(f"{api.url}/v1/drain", data=body(), headers=headers) as response:
        assert response.status == 413


def write(path: Path, text: str) -> None:
    """Replaces a file, as those do who mount secrets."""
    new = path.with_suffix(".new")
    new.write_text(text)
    new.replace(path)


async def read_events(response: aiohttp.ClientResponse, count: int) -> list[dict[str, str]]:
    """Returns so many server-sent events, as their fields."""
    found: list[dict[str, str]] = []
    fields: dict[str, str] = {}
    while len(found) < count:
        line = (await response.content.readline()).decode().rstrip("\n")
        if line and not line.startswith(":"):
            name, _, value = line.partition(": ")
            fields[name] = value
        elif not line and "data" in fields:
            found.append(fields)
            fields = {}
        elif not line:
            fields = {}
    return found


def stream(api: Api, last: str = "") -> Any:
    """Opens the stream of events, after the last one seen."""
    headers = {"Authorization": f"Bearer {READ}"} | ({"Last-Event-ID": last} if last else {})
    return api.session.get(f"{api.url}/v1/events/stream", headers=headers)


async def test_events_come_as_they_happen_and_go_on_after_the_last_one_seen(api: Api, redis: Redis) -> None:
    events = Events(redis)
    await events.tell(EventName.WORKER_LEFT, {"worker_id": "before"})
    async with stream(api) as response:
        assert response.headers["Content-Type"].startswith("text/event-stream")
        await response.content.readuntil(b"events of voicepool")
        await events.tell(EventName.WORKER_LEFT, {"worker_id": "a"})
        [first] = await read_events(response, 1)
    assert (first["event"], json.loads(first["data"])["worker_id"]) == ("worker.left", "a")
    assert json.loads(first["data"])["id"] == first["id"]
    for worker_id in ("b", "c"):
        await events.tell(EventName.WORKER_LEFT, {"worker_id": worker_id})
    async with stream(api, first["id"]) as response:
        missed = await read_events(response, 2)
    assert [json.loads(each["data"])["worker_id"] for each in missed] == ["b", "c"]


async def test_a_stream_goes_on_when_redis_is_back(api: Api, redis_url: str, redis_server: RedisServer) -> None:
    async with stream(api, "0-0") as response:
        await response.content.readuntil(b"events of voicepool")
        redis_server.stop()
        await response.content.readuntil(b"Redis does not answer")
        redis_server.restart()
        async with Redis.from_url(redis_url) as redis:
            await Events(redis).tell(EventName.WORKER_LEFT, {"worker_id": "after"})
        [event] = await read_events(response, 1)
    assert json.loads(event["data"])["worker_id"] == "after"


async def test_a_stream_does_not_keep_the_process_from_ending(redis_url: str, tokens_file: Path) -> None:
    async with serving(redis_url, tokens=tokens_file) as api, stream(api) as response:
        await response.content.readuntil(b"events of voicepool")
        api.process.terminate()
        await response.read()
        assert await api.process.wait() == 0


async def test_a_last_event_id_that_is_none_is_refused(api: Api) -> None:
    async with stream(api, "$") as response:
        assert response.status == 422


async def test_the_description_is_good_openapi(api: Api) -> None:
    described = await api.get("/openapi.json", token=None)
    assert described["openapi"].startswith("3.1")
    operations = [each for path in described["paths"].values() for each in path.values()]
    assert len({each["operationId"] for each in operations}) == len(operations) == 20
    for operation in operations:
        assert operation["description"]
        assert "200" in operation["responses"]
    for schema in described["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)
    text = json.dumps(described)
    for name in {part.partition('"')[0] for part in text.split('"#/components/schemas/')[1:]}:
        assert name in described["components"]["schemas"]
    open_paths = [path for path, each in described["paths"].items() if "security" not in next(iter(each.values()))]
    assert sorted(open_paths) == ["/livez", "/readyz"]


async def test_without_tokens_it_serves_this_host_only(redis_url: str) -> None:
    async with serving(redis_url, "--insecure-loopback") as api:
        assert (await api.ask("GET", "/v1/pool", token=None))[0] == 200
        for headers in ({"Host": "rebound.example"}, {"Origin": "https://page.example"}):
            status, problem, _ = await api.ask("POST", "/v1/drain", {"all": True}, token=None, **headers)
            assert (status, problem["type"]) == (403, "urn:voicepool:problem:foreign-origin")


@pytest.mark.parametrize(
    ("environment", "options", "reason"),
    [
        ({}, [], "ADMIN_TOKENS_FILE: is missing"),
        ({"ADMIN_HOST": "0.0.0.0"}, ["--insecure-loopback"], "must be a loopback address"),
        ({"ADMIN_TOKENS_FILE": "nowhere"}, [], "ADMIN_TOKENS_FILE: cannot be read"),
        ({"ADMIN_HOST": "here"}, [], "ADMIN_HOST"),
        ({"ADMIN_HOST": "192.0.2.77"}, [], "cannot listen"),
    ],
)
async def test_it_does_not_start_without_being_told_who_may(
    environment: dict[str, str], options: list[str], reason: str, tokens_file: Path
) -> None:
    if reason == "cannot listen":
        environment = environment | {"ADMIN_TOKENS_FILE": str(tokens_file)}
    process = await asyncio.create_subprocess_exec(
        VOICEPOOL, "api", *options, env=os.environ | environment, stderr=subprocess.PIPE
    )
    _, said = await process.communicate()
    assert process.returncode == 2
    assert reason in said.decode()
