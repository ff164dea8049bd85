"""docs/troubleshooting.md knows every status that the pool answers, and every reason that it gives for one."""

import re
from pathlib import Path

from dispatcher.sip.responses import REASONS
from shared.ending import CallEnd

ROOT = Path(__file__).parents[3]

OF_THE_WORKER = {400, 488}
"""What `worker/pjsip/invite.py` refuses an INVITE with."""

OF_PJSIP = {415, 420, 421, 422, 481, 486, 491, 603}
"""What the worker's SIP stack answers by itself (pjsip 2.17, `sip_inv.c`, `sip_timer.c`, `pjsua_call.c`)."""


def rows() -> dict[int, set[str]]:
    """Returns the table: status -> the reasons that stand beside it."""
    page = (ROOT / "docs" / "troubleshooting.md").read_text()
    _, _, rest = page.partition("## Every status a caller can get")
    table: dict[int, set[str]] = {}
    for status, reasons in re.findall(r"^\| (\d{3}) \| ([^|]*)\|", rest.partition("\n## ")[0], re.MULTILINE):
        table.setdefault(int(status), set()).update(re.findall(r"`(\w+)`", reasons))
    return table


def test_every_status_that_the_pool_answers_is_explained_and_no_other() -> None:
    dispatcher = {status for status in REASONS if status >= 300}
    worker = {end.sip_status for end in CallEnd} - {200}
    assert rows().keys() == dispatcher | worker | OF_THE_WORKER | OF_PJSIP


def test_every_reason_of_an_ended_call_stands_beside_its_status() -> None:
    for end in CallEnd:
        if end.sip_status != 200:
            assert end.value in rows()[end.sip_status], end


def test_every_reason_of_a_dispatcher_is_explained() -> None:
    source = "".join(file.read_text() for file in (ROOT / "dispatcher").rglob("*.py"))
    refused = re.findall(r'_refuse\((\d{3}), "(\w+)"', source)
    assert len(refused) >= 5
    for status, reason in refused:
        assert reason in rows()[int(status)], reason
    no_room = set(re.findall(r'Refused\("(\w+)"\)|self\._refuse\("(\w+)"\)', source))
    assert {"".join(pair) for pair in no_room} - {"caller_cancelled"} <= rows()[503]
    assert {"draining", "overload", "rate"} <= rows()[503]
