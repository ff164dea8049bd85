"""The errors that cross module borders.

VoicePoolError
+-- ConfigError         a setting is missing or wrong; the process does not start
+-- ControlUnavailable  Redis did not answer in time; the caller goes on from what it knows
+-- NoCapacity          no worker has room for the call
|   +-- WorkerGone      the worker is not registered (any more), or silent
+-- NoQuota             no Voice Live resource has anything left for the call
+-- CallTaken           another replica's lease for the call has been claimed
+-- LeaseLost           the lease is unknown, expired, or another worker's
+-- CommandFailed       an operator's command was not carried out
+-- TokenInvalid        the lease token is missing, forged, stale or for somebody else
+-- UpstreamError       Voice Live refused, failed or went away
+-- PeerError           the SIP peer sent something that cannot be served

Exceptions of redis, aiohttp and pjsua2 never leave the module that calls them: they are mapped to these at the seam.
It holds no policy: who retries what is decided where the error is caught.
"""


class VoicePoolError(Exception):
    """Base of every error the pool raises on purpose."""


class ConfigError(VoicePoolError):
    """Every bad or missing setting found, one line each in `problems`."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class ControlUnavailable(VoicePoolError):
    """Redis did not answer in time or refused the connection."""


class NoCapacity(VoicePoolError):
    """No worker has room; the INVITE gets 503."""


class WorkerGone(NoCapacity):
    """Redis does not know the worker, or has not heard of it for long: who chose it did so from an outdated table."""


class NoQuota(VoicePoolError):
    """No Voice Live resource has anything left; `wait_s` says when to ask again, None that the call is not in line."""

    def __init__(self, message: str, *, wait_s: float | None = None) -> None:
        super().__init__(message)
        self.wait_s = wait_s


class CallTaken(VoicePoolError):
    """A worker carries the call already, through another dispatcher, or has carried it: nothing is to be done here."""


class LeaseLost(VoicePoolError):
    """The lease is unknown, has expired, or belongs to another worker."""


class CommandFailed(VoicePoolError):
    """What an operator asked for was not done; the message says why."""


class TokenInvalid(VoicePoolError):
    """The lease token is missing, forged, stale or names another worker or call."""


class UpstreamError(VoicePoolError):
    """Voice Live refused the connection, failed, or went away; `status` is its HTTP or close code if known."""

    def __init__(self, message: str, *, status: int | None = None, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after_s = retry_after_s


class PeerError(VoicePoolError):
    """The SIP peer sent something that cannot be served; `sip_status` says what it is told."""

    def __init__(self, message: str, sip_status: int = 400) -> None:
        super().__init__(message)
        self.sip_status = sip_status
