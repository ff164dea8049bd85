"""Who may speak next: one response at a time, and those that are still to be asked for. Pure.

A connection refuses response.create while a response is under way, and the service begins responses of its own whenever
the caller has spoken. So what we want said waits here until nothing is.
"""

from collections import deque
from dataclasses import dataclass
from enum import StrEnum, auto

from worker.voicelive import messages
from worker.voicelive.messages import Event


class Purpose(StrEnum):
    """Why a response is asked for."""

    ANSWER = auto()
    """The model shall go on from what it has been told. Any response that begins later does that, too."""
    SAY = auto()
    """Something has to be said."""
    ASK = auto()
    """Something is to be said, unless the caller speaks before."""


@dataclass(frozen=True, slots=True)
class Request:
    """A response.create to be sent."""

    purpose: Purpose
    params: Event


ANSWER = Request(Purpose.ANSWER, {})


class Floor:
    """The responses of a call; a new connection begins with nothing under way (`moved`)."""

    def __init__(self) -> None:
        self._wanted: deque[Request] = deque()
        self._sent: Request | None = None
        """On its way: neither begun nor refused."""
        self._latest: Request | None = None
        self._event_id = ""
        self._count = 0
        self._expected = False
        self.response = ""
        """Id of the response under way."""

    @property
    def free(self) -> bool:
        """Whether nothing is under way or wanted."""
        return not (self.busy or self._wanted)

    @property
    def busy(self) -> bool:
        """Whether a response is under way, has been asked for, or will be begun by the service."""
        return bool(self.response or self._sent or self._expected)

    def expect(self, begins: bool) -> None:
        """Says that the service will begin a response by itself, because the caller has spoken; or will not, after all.

        One that we ask for meanwhile would take its place, and the caller would not be answered.
        """
        self._expected = begins

    def want(self, request: Request) -> None:
        """Has a response asked for as soon as none is under way; two answers in a row would say the same."""
        if request.purpose is not Purpose.ANSWER or request not in self._wanted:
            self._wanted.append(request)

    def next(self) -> Event | None:
        """Returns the response.create to send now; None while a response is under way or none is wanted."""
        if self.busy or not self._wanted:
            return None
        self._sent = self._latest = self._wanted.popleft()
        self._count += 1
        self._event_id = f"response:{self._count}"
        return messages.response(self._sent.params, self._event_id)

    def began(self, response_id: str, *, knows_all: bool) -> None:
        """Notes that a response has begun, ours or the service's own.

        `knows_all` says that the service had taken in everything we told it by then: one that answers is needless now.
        """
        self.response = response_id
        self._sent, self._expected = None, False
        if knows_all:
            self._drop(Purpose.ANSWER)
            if self._latest is not None and self._latest.purpose is Purpose.ANSWER:
                self._latest = None

    def refused(self, event_id: str, *, met_another: bool) -> bool:
        """Notes that a client event was refused; says whether it was the latest response.create.

        `met_another` says that the service had begun a response of its own in the same moment: ours is asked for again
        when that one is over. What is refused for anything else would be refused again.
        """
        if not event_id or event_id != self._event_id:
            return False
        request, self._sent, self._latest = self._latest, None, None
        if met_another and request is not None and request.purpose is not Purpose.ASK:
            self._wanted.appendleft(request)
        return True

    def ended(self, response_id: str) -> None:
        """Notes that a response is over."""
        if self.response == response_id:
            self.response = ""

    def caller_spoke(self) -> None:
        """Drops what the caller has made needless by speaking."""
        self._drop(Purpose.ASK)

    def moved(self) -> bool:
        """Begins anew on another connection; says whether a response was under way or to come on the old one."""
        was_busy = self.busy
        if self._sent is not None:
            self._wanted.appendleft(self._sent)
        self._sent, self._latest, self.response, self._expected = None, None, "", False
        return was_busy

    def clear(self) -> None:
        """Forgets everything: there is nobody to ask."""
        self.moved()
        self._wanted.clear()

    def _drop(self, purpose: Purpose) -> None:
        self._wanted = deque(request for request in self._wanted if request.purpose is not purpose)
