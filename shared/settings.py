"""Every setting of every process: frozen values read from the environment (and `.env`), checked once at start.

It does not hold per-agent conversation rules, and nothing reads a setting from anywhere but these objects.
"""

import ipaddress
import os
import socket
from typing import Annotated, Any, Self, TypeVar
from urllib.parse import urlsplit

from pydantic import AliasChoices, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from shared.agents.labels import Labels, labels_in
from shared.choices import AudioFormat, DispatchMode, MediaSrtp, PlacementPolicy
from shared.control.address import RedisAddress, sentinels_in
from shared.errors import ConfigError

PRIVATE_NETWORKS = "127.0.0.0/8,10.0.0.0/8,172.16.0.0/12,192.168.0.0/16"

PORTS_PER_CALL = 6
"""RTP and RTCP, times three: a port rests while two other calls come and go, so that late packets of the last call
cannot reach the next one."""

SIP_PORT = 5060
"""Default of SIP (RFC 3261 section 19.1.2)."""

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def setting(env: str, default: Any, description: str, **limits: Any) -> Any:
    """Returns a field that is read from the environment variable `env`."""
    return Field(default, validation_alias=AliasChoices(env), description=description, **limits)


class RedisSettings(BaseSettings):
    """Where the control plane is, and how much is logged: what everything that meets it has."""

    model_config = SettingsConfigDict(frozen=True, env_file=".env", extra="ignore", populate_by_name=True)

    redis_url: str = setting(
        "REDIS_URL", "redis://127.0.0.1:6379/0", "Redis that holds the control plane; rediss:// is with TLS."
    )
    redis_sentinels: str = setting(
        "REDIS_SENTINELS",
        "",
        "Comma-separated host:port of Sentinels that name the master, instead of the host in REDIS_URL; empty is none.",
    )
    redis_sentinel_service: str = setting(
        "REDIS_SENTINEL_SERVICE", "mymaster", "What the Sentinels call the master.", min_length=1
    )
    redis_sentinel_password: SecretStr | None = setting(
        "REDIS_SENTINEL_PASSWORD", None, "Password of the Sentinels; empty is none."
    )
    redis_ca_file: str = setting(
        "REDIS_CA_FILE", "", "PEM file of the authority that signed Redis's certificate; empty trusts the system's."
    )
    redis_cert_file: str = setting(
        "REDIS_CERT_FILE", "", "PEM file of a certificate to show to Redis; empty shows none."
    )
    redis_key_file: str = setting(
        "REDIS_KEY_FILE", "", "PEM file of that certificate's key; empty looks for it beside the certificate."
    )
    log_level: str = setting("LOG_LEVEL", "INFO", "DEBUG, INFO, WARNING or ERROR.")

    @field_validator("redis_url")
    @classmethod
    def _redis_url(cls, value: str) -> str:
        if not value.startswith(("redis://", "rediss://", "unix://")):
            raise ValueError("must start with redis://, rediss:// or unix://")
        try:
            url = urlsplit(value)
            _ = url.port  # raises for what is no number, as when a password has a bare / or #
        except ValueError:
            raise ValueError("has no port number; in a password, / # ? @ are %2F %23 %3F %40") from None
        if "ssl_" in url.query:
            raise ValueError("takes no ssl_ options; see REDIS_CA_FILE, REDIS_CERT_FILE and REDIS_KEY_FILE")
        return value

    @field_validator("redis_sentinels")
    @classmethod
    def _sentinels(cls, value: str) -> str:
        sentinels_in(value)
        return value

    @field_validator("redis_sentinel_password", mode="before")
    @classmethod
    def _no_password(cls, value: Any) -> Any:
        return None if value == "" else value

    @field_validator("log_level")
    @classmethod
    def _known_level(cls, value: str) -> str:
        if value.upper() not in {"DEBUG", "INFO", "WARNING", "ERROR"}:
            raise ValueError("must be DEBUG, INFO, WARNING or ERROR")
        return value.upper()

    @model_validator(mode="after")
    def _redis_can_be_reached_so(self) -> Self:
        if self.redis_sentinels and self.redis_url.startswith("unix:"):
            raise ValueError("REDIS_URL: must start with redis:// or rediss:// beside REDIS_SENTINELS")
        self.redis.tls_context()
        return self

    @property
    def redis(self) -> RedisAddress:
        """What `shared.control.connection.connect` takes."""
        password = self.redis_sentinel_password
        return RedisAddress(
            url=self.redis_url,
            sentinels=sentinels_in(self.redis_sentinels),
            sentinel_service=self.redis_sentinel_service,
            sentinel_password=password.get_secret_value() if password else "",
            ca_file=self.redis_ca_file,
            cert_file=self.redis_cert_file,
            key_file=self.redis_key_file,
        )


class PoolSettings(RedisSettings):
    """What every process of the pool must agree on."""

    lease_secret: SecretStr = setting(
        "LEASE_SECRET",
        ...,
        "Signs lease tokens; the same everywhere, 16 characters or more (for example: openssl rand -hex 16).",
    )
    pod_name: str = setting("POD_NAME", "", "Name of this pod in worker and dispatcher ids; empty is the host name.")
    sip_local_address: str = setting("SIP_LOCAL_ADDRESS", "0.0.0.0", "Address that SIP sockets are bound to.")
    sip_via_addr: str = setting(
        "SIP_VIA_ADDR", "", "Address put into Via, Contact and Record-Route; empty finds this host's own."
    )
    agents_file: str = setting(
        "AGENTS_FILE", "", "YAML file with the agents that answer; empty is one agent made of the VOICE_LIVE_ settings."
    )
    agents_reload_s: float = setting(
        "AGENTS_RELOAD_S", 5.0, "How often the agent file is looked at for changes, in seconds.", gt=0, le=3600
    )
    voice_live_connections_per_minute: int | None = setting(
        "VOICE_LIVE_CONNECTIONS_PER_MINUTE",
        None,
        "New sessions in any minute at the resource of AZURE_VOICELIVE_ENDPOINT, of all workers; empty is no limit.",
        ge=1,
    )
    voice_live_sessions: int | None = setting(
        "VOICE_LIVE_SESSIONS",
        None,
        "Sessions at once at that resource, of all workers; empty is no limit.",
        ge=1,
    )
    voice_live_tokens_per_minute: int | None = setting(
        "VOICE_LIVE_TOKENS_PER_MINUTE",
        None,
        "Tokens in any minute at that resource, of all workers; empty is no limit.",
        ge=1,
    )

    telemetry_port: int | None = setting(
        "TELEMETRY_PORT",
        None,
        "TCP port of /metrics, /livez and /readyz; 0 takes any free one; empty is none of them.",
        ge=0,
        le=65535,
    )
    telemetry_host: str = setting("TELEMETRY_HOST", "127.0.0.1", "Address that TELEMETRY_PORT is opened on.")
    otlp_endpoint: str = setting(
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "",
        "URL that traces and metrics are sent to with OTLP (http/protobuf), like http://collector:4318; empty is none.",
    )
    trace_ratio: float = setting("TRACE_RATIO", 1.0, "Share of calls that are traced, from 0 to 1.", ge=0, le=1)

    @field_validator("lease_secret")
    @classmethod
    def _long_enough(cls, value: SecretStr) -> SecretStr:
        if not value.get_secret_value():
            raise ValueError("is missing")
        if len(value.get_secret_value()) < 16:
            raise ValueError("must have 16 characters or more")
        return value

    @field_validator("sip_local_address", "sip_via_addr", "media_address", check_fields=False)
    @classmethod
    def _ip_address(cls, value: str) -> str:
        if value:
            ipaddress.ip_address(value)
        return value

    @field_validator(
        "voice_live_connections_per_minute",
        "voice_live_sessions",
        "voice_live_tokens_per_minute",
        "telemetry_port",
        "sip_tls_port",
        "voicelive_api_key",
        "voice_live_max_response_output_tokens",
        mode="before",
        check_fields=False,
    )
    @classmethod
    def _empty_is_none(cls, value: Any) -> Any:
        return None if value in ("", "inf") else value

    @field_validator("otlp_endpoint")
    @classmethod
    def _http_url(cls, value: str) -> str:
        if value and not value.startswith(("http://", "https://")):
            raise ValueError("must be a URL that starts with http:// or https://")
        return value

    @property
    def telemetry(self) -> bool:
        """Whether anybody wants to know what is measured."""
        return self.telemetry_port is not None or bool(self.otlp_endpoint)

    @property
    def pod(self) -> str:
        """Name of this pod."""
        return self.pod_name or socket.gethostname()

    @property
    def advertised_address(self) -> str:
        """The address peers reach this host's SIP at."""
        if self.sip_via_addr:
            return self.sip_via_addr
        unspecified = ipaddress.ip_address(self.sip_local_address).is_unspecified
        return own_address() if unspecified else self.sip_local_address


class DispatcherSettings(PoolSettings):
    """Settings of a dispatcher."""

    sip_port: int = setting(
        "SIP_PORT", 5060, "UDP and TCP port the dispatcher listens on; 0 takes any free one.", ge=0, le=65535
    )
    sip_tcp: bool = setting("SIP_TCP", True, "Listen on SIP_PORT over TCP too.")
    sip_tls_port: int | None = setting(
        "SIP_TLS_PORT",
        None,
        "TCP port the dispatcher listens on for SIP over TLS, 5061 as a rule; 0 takes any free one; empty is none.",
        ge=0,
        le=65535,
    )
    sip_tls_cert_file: str = setting(
        "SIP_TLS_CERT_FILE",
        "",
        "PEM file of the certificate for SIP over TLS, with those that lead to its authority; read anew when changed.",
    )
    sip_tls_key_file: str = setting(
        "SIP_TLS_KEY_FILE", "", "PEM file of that certificate's key; empty looks for it beside the certificate."
    )
    sip_tls_ca_file: str = setting(
        "SIP_TLS_CA_FILE",
        "",
        "PEM file of the authority whose certificates SIP peers have to show over TLS; empty asks for none.",
    )
    sip_shared_address: str = setting(
        "SIP_SHARED_ADDRESS",
        "",
        "address or address:port at which callers reach any dispatcher (of a load balancer); stands in Record-Route; "
        "empty is this dispatcher's own.",
    )
    sip_share_port: bool = setting(
        "SIP_SHARE_PORT",
        False,
        "Let several dispatchers of this host listen on SIP_PORT together; each has a port of its own for workers.",
    )
    dispatch_mode: DispatchMode = setting(
        "DISPATCH_MODE", DispatchMode.PROXY, "proxy: stay in the SIP path; redirect: answer 302 naming the worker."
    )
    placement_policy: PlacementPolicy = setting(
        "PLACEMENT_POLICY", PlacementPolicy.SPREAD, "spread: lowest load first; pack: fullest first."
    )
    sip_allowed_peers: Annotated[tuple[Network, ...], NoDecode] = setting(
        "SIP_ALLOWED_PEERS", PRIVATE_NETWORKS, "Comma-separated networks SIP is accepted from.", validate_default=True
    )
    sip_invite_rate: float = setting(
        "SIP_INVITE_RATE", 100.0, "New INVITEs per second accepted from one source address.", gt=0
    )
    queue_wait_s: float = setting(
        "QUEUE_WAIT_S",
        10.0,
        "Longest that a caller hears ringing while Voice Live's quota has nothing left, in seconds; 0 refuses at once.",
        ge=0,
        le=120,
    )
    sip_stop_grace_s: float = setting(
        "SIP_STOP_GRACE_S",
        0.0,
        "How long a dispatcher that was told to stop still takes calls, in seconds, while OPTIONS gets 503: as long as "
        "a load balancer may go on sending it some.",
        ge=0,
        le=300,
    )
    record_retention_h: float = setting(
        "RECORD_RETENTION_H",
        168.0,
        "Hours that call records are kept in Redis; the newest 10,000 at most.",
        gt=0,
        le=87_600,
    )

    @model_validator(mode="after")
    def _tls_has_a_certificate(self) -> Self:
        files = {"SIP_TLS_CERT_FILE": self.sip_tls_cert_file, "SIP_TLS_KEY_FILE": self.sip_tls_key_file}
        given = {variable for variable, path in (files | {"SIP_TLS_CA_FILE": self.sip_tls_ca_file}).items() if path}
        if self.sip_tls_port is None and given:
            raise ValueError(f"{min(given)}: is of no use without SIP_TLS_PORT")
        if self.sip_tls_port is not None and not self.sip_tls_cert_file:
            raise ValueError("SIP_TLS_CERT_FILE: is missing beside SIP_TLS_PORT")
        return self

    @field_validator("sip_shared_address")
    @classmethod
    def _shared_address(cls, value: str) -> str:
        if value:
            shared_address_in(value)
        return value

    @property
    def shared_address(self) -> tuple[str, int] | None:
        """Host and port of SIP_SHARED_ADDRESS; None without."""
        return shared_address_in(self.sip_shared_address) if self.sip_shared_address else None

    @field_validator("sip_allowed_peers", mode="before")
    @classmethod
    def _networks(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(ipaddress.ip_network(part.strip()) for part in value.split(",") if part.strip())
        return value


class WorkerSettings(PoolSettings):
    """Settings of a supervisor and its workers."""

    worker_processes: int = setting(
        "WORKER_PROCESSES", 0, "Worker processes of this pod; 0 is one per core.", ge=0, le=256
    )
    worker_capacity: int = setting("WORKER_CAPACITY", 100, "Calls one worker process carries at once.", ge=1, le=500)
    worker_sip_port: int = setting(
        "WORKER_SIP_PORT",
        0,
        "UDP port of the first worker's SIP endpoint, the next ones follow; 0 takes free ones.",
        ge=0,
        le=65535,
    )
    worker_drain_s: float = setting(
        "WORKER_DRAIN_S", 3600.0, "Longest wait for running calls when a worker is told to stop.", ge=0
    )
    node_name: str = setting(
        "NODE_NAME",
        "",
        "Name of the machine whose ports this pod shares with others: they lease port blocks from Redis. Empty is a "
        "pod that has the ports to itself.",
    )
    port_blocks: int = setting(
        "PORT_BLOCKS",
        1,
        "Port blocks of each machine, so many pods may share it. Block n moves WORKER_SIP_PORT, MEDIA_PORT and "
        "TELEMETRY_PORT up by n times what a pod needs.",
        ge=1,
        le=1000,
    )
    telemetry_port_file: str = setting(
        "TELEMETRY_PORT_FILE",
        "",
        "File that the pod's telemetry port is written to, for probes: with port blocks nobody knows it before. Empty "
        "is none.",
    )
    pod_deletion_cost: bool = setting(
        "POD_DELETION_COST",
        False,
        "Keep the pod's annotation controller.kubernetes.io/pod-deletion-cost at its number of calls, so that "
        "Kubernetes removes pods with few calls first.",
    )
    service_account_dir: str = setting(
        "SERVICE_ACCOUNT_DIR",
        "/var/run/secrets/kubernetes.io/serviceaccount",
        "Directory with the token, ca.crt and namespace by which the pod speaks to Kubernetes.",
    )
    worker_labels: Annotated[Labels, NoDecode] = setting(
        "WORKER_LABELS",
        {},
        "Labels of this pod's workers, which agents can ask for: region=westeurope,pool=gold; empty is none.",
    )
    media_address: str = setting("MEDIA_ADDRESS", "", "Address offered for RTP; empty is the same as for SIP.")
    media_port: int = setting("MEDIA_PORT", 16384, "First RTP port of this pod.", ge=1024, le=65000)
    media_port_count: int = setting(
        "MEDIA_PORT_COUNT", 0, f"RTP ports of this pod, shared among its workers; 0 is {PORTS_PER_CALL} per slot.", ge=0
    )
    media_srtp: MediaSrtp = setting(
        "MEDIA_SRTP",
        MediaSrtp.OPTIONAL,
        "SRTP with keys in SDP: off; optional, as the caller offers; mandatory, plain RTP is refused with 488.",
    )
    secrets_dir: str = setting(
        "SECRETS_DIR", "", "Directory of files that secrets are taken from, beside the environment; empty is none."
    )
    call_record_file: str = setting(
        "CALL_RECORD_FILE", "", "File that call records are appended to as well, as JSON lines; empty is none."
    )
    voicelive_endpoint: str = setting("AZURE_VOICELIVE_ENDPOINT", ..., "URL of the Voice Live resource.")
    voicelive_api_key: SecretStr | None = setting(
        "AZURE_VOICELIVE_API_KEY", None, "API key of the resource; empty signs in through Microsoft Entra."
    )
    voice_live_model: str = setting("VOICE_LIVE_MODEL", "gpt-4.1-mini", "Model that answers.", min_length=1)
    voice_live_voice: str = setting(
        "VOICE_LIVE_VOICE", "en-US-AvaNeural", "Azure voice (like en-US-AvaNeural) or OpenAI voice (like alloy)."
    )
    voice_live_instructions: str = setting(
        "VOICE_LIVE_INSTRUCTIONS",
        "You answer the telephone. Be friendly, brief and clear.",
        "What the model is told about its task.",
    )
    voice_live_max_response_output_tokens: int | None = setting(
        "VOICE_LIVE_MAX_RESPONSE_OUTPUT_TOKENS", None, "Longest answer in tokens; empty or inf is no limit.", ge=1
    )
    voice_live_proactive_greeting_enabled: bool = setting(
        "VOICE_LIVE_PROACTIVE_GREETING_ENABLED", True, "Greet the caller before they speak."
    )
    voice_live_proactive_greeting: str = setting(
        "VOICE_LIVE_PROACTIVE_GREETING", "Hello, how can I help you today?", "The greeting, spoken word for word."
    )
    voice_live_auto_truncate: bool = setting(
        "VOICE_LIVE_AUTO_TRUNCATE",
        False,
        "Let Voice Live guess what an interrupted caller heard, instead of telling it what was played.",
    )
    voice_live_audio_format: AudioFormat = setting(
        "VOICE_LIVE_AUDIO_FORMAT", AudioFormat.G711, "g711 (telephone audio straight through) or pcm16 (24 kHz)."
    )
    voice_live_uplink_ms: int = setting(
        "VOICE_LIVE_UPLINK_MS",
        40,
        "Caller audio per message to Voice Live, in ms: a multiple of 20.",
        ge=20,
        le=200,
        multiple_of=20,
    )
    voice_live_connect_timeout_s: float = setting(
        "VOICE_LIVE_CONNECT_TIMEOUT_S", 8.0, "Longest wait for a ready session before the caller gets 503.", gt=0, le=60
    )
    voice_live_log_file: str = setting(
        "VOICE_LIVE_LOG_FILE", "", "File that logs are appended to as well; empty is none."
    )

    @field_validator("worker_labels", mode="before")
    @classmethod
    def _labels(cls, value: Any) -> Any:
        return labels_in(value) if isinstance(value, str) else value

    @field_validator("voicelive_endpoint")
    @classmethod
    def _url(cls, value: str) -> str:
        if not value.startswith(("https://", "http://", "wss://", "ws://")):
            raise ValueError("must be a URL that starts with https://, wss://, http:// or ws://")
        return value

    @model_validator(mode="after")
    def _ports_suffice(self) -> Self:
        needed = self.processes * self.worker_capacity * 2
        if self.media_port_count and self.media_port_count < needed:
            raise ValueError(
                f"MEDIA_PORT_COUNT: {needed} or more are needed for {self.processes} workers "
                f"of {self.worker_capacity} calls"
            )
        return self

    @model_validator(mode="after")
    def _pod_is_named(self) -> Self:
        if self.pod_deletion_cost and not self.pod_name:
            raise ValueError("POD_NAME: must be set beside POD_DELETION_COST; on the host's network no pod has its own")
        return self

    @model_validator(mode="after")
    def _blocks_fit(self) -> Self:
        if self.port_blocks > 1 and not self.node_name:
            raise ValueError("NODE_NAME: must be set where there is more than one of PORT_BLOCKS")
        if self.node_name and not self.worker_sip_port:
            # A bound SIP port is what shows that a block is in use when Redis does not know it.
            raise ValueError("WORKER_SIP_PORT: must be set beside NODE_NAME")
        blocks = self.port_blocks
        ranges = {
            "WORKER_SIP_PORT": (self.worker_sip_port, self.processes),
            "MEDIA_PORT": (self.media_port, self.media_ports),
            "TELEMETRY_PORT": (self.telemetry_port or 0, 1),
        }
        for name, (first, size) in ranges.items():
            if first + blocks * size > 65536:
                ports = f"{blocks} blocks of {size} ports" if blocks > 1 else f"{size} ports"
                raise ValueError(f"{name}: {ports} from {first} reach beyond 65535")
        sip_end = self.worker_sip_port + blocks * self.processes
        media_end = self.media_port + blocks * self.media_ports
        if self.worker_sip_port < media_end and self.media_port < sip_end:
            raise ValueError(
                f"WORKER_SIP_PORT: the ports from {self.worker_sip_port} to {sip_end - 1} and those of MEDIA_PORT "
                f"from {self.media_port} to {media_end - 1} overlap"
            )
        return self

    def in_block(self, block: int) -> Self:
        """Returns the settings of a pod that has this port block, 0 being the one the settings name."""
        moved = {
            "worker_sip_port": self.worker_sip_port and self.worker_sip_port + block * self.processes,
            "media_port": self.media_port + block * self.media_ports,
            "telemetry_port": self.telemetry_port and self.telemetry_port + block,
        }
        return self.model_copy(update=moved)

    @property
    def processes(self) -> int:
        """Worker processes to run."""
        return self.worker_processes or os.cpu_count() or 1

    @property
    def media_ports(self) -> int:
        """RTP ports of this pod."""
        return self.media_port_count or self.processes * self.worker_capacity * PORTS_PER_CALL

    @property
    def offered_media_address(self) -> str:
        """The address callers send RTP to."""
        return self.media_address or self.advertised_address

    def media_port_range(self, index: int) -> range:
        """Returns the RTP ports of worker `index`: disjoint per worker, an even number from an even port on."""
        span = self.media_ports // self.processes // 2 * 2
        first = self.media_port + self.media_port % 2 + index * span
        return range(first, first + span)


T = TypeVar("T", bound=RedisSettings)


def load(model: type[T], **overrides: Any) -> T:
    """Returns the settings from environment and `.env`; raises ConfigError that lists every bad or missing value."""
    try:
        return model(**overrides)
    except ValidationError as error:
        raise ConfigError(problems_in(error)) from error


def problems_in(error: ValidationError) -> list[str]:
    """Returns one line per bad value, naming the variable and never showing what was in it."""
    lines = []
    for item in error.errors(include_input=False, include_url=False):
        name = str(item["loc"][0]) if item["loc"] else ""
        text = "is missing" if item["type"] == "missing" else item["msg"].removeprefix("Value error, ")
        lines.append(f"{name}: {text}" if name else text)
    return lines


def shared_address_in(value: str) -> tuple[str, int]:
    """Returns host and port of `address`, `address:port` or `[v6]:port`; raises ValueError for a name."""
    parts = urlsplit(f"//{value}" if value.count(":") < 2 or value.startswith("[") else f"//[{value}]")
    try:
        return str(ipaddress.ip_address(parts.hostname or "")), parts.port or SIP_PORT
    except ValueError:
        raise ValueError("must be an IP address, or address:port") from None


def own_address() -> str:
    """Returns the address of this host's default route, or the loopback address on a host without one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # RFC 5737 documentation address: connecting UDP sends nothing
        except OSError:
            return "127.0.0.1"
        return str(probe.getsockname()[0])
