"""The telephone's keypad: sends digits in one of the three ways telephones do.

It does not wait for anybody to react to them.
"""

import asyncio

import pjsua2 as pj

from simulator.phone.plan import DtmfMethod
from simulator.phone.telephone import Leg

TONE_MS = 160
GAP_MS = 100
"""A key held down, and the pause until the next, as an unhurried caller makes them."""


async def key_in(leg: Leg, digits: str, method: DtmfMethod) -> None:
    """Sends the digits and returns once they are out; raises pj.Error when that is impossible."""
    for digit in digits:
        if method is DtmfMethod.INFO:
            leg.sendRequest(_info(digit))
        else:
            prm = pj.CallSendDtmfParam()
            prm.digits, prm.duration = digit, TONE_MS
            events = method is DtmfMethod.RFC4733
            prm.method = pj.PJSUA_DTMF_METHOD_RFC2833 if events else pj.PJSUA_DTMF_METHOD_SIP_INFO
            leg.sendDtmf(prm)
        await asyncio.sleep((TONE_MS + GAP_MS) / 1000)


def _info(digit: str) -> pj.CallSendRequestParam:
    prm = pj.CallSendRequestParam()
    prm.method = "INFO"
    prm.txOption.contentType = "application/dtmf"
    prm.txOption.msgBody = digit
    return prm
