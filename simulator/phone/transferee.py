"""What the telephone does when it is referred to somebody.

It answers no REFER itself; pjsip does, as `Leg.onCallTransferRequest` says.
"""

import pjsua2 as pj

from simulator.phone.exchange import Exchange
from simulator.phone.plan import Refer


class Transferee:
    """Whom pjsip dials for a REFER: not its target, which need not exist, but an exchange that plays its part.

    pjsip sends NOTIFYs only about a call it makes itself. So that call goes to the exchange, as to an outbound proxy.
    """

    def __init__(self, account: pj.Account, refer: Refer) -> None:
        self.refer = refer
        self._account = account
        self._config: pj.AccountConfig
        self._exchange = Exchange({Refer.ACCEPT: 200, Refer.BUSY: 486}.get(refer, 100))
        self._calls: list[pj.Call] = []

    async def open(self, host: str, config: pj.AccountConfig) -> None:
        """Starts the exchange; `config` is the account's."""
        self._config = config
        await self._exchange.open(host)

    def close(self) -> None:
        """Ends it, once pjsip has ended."""
        self._calls.clear()
        self._exchange.close()

    def referred(self) -> tuple[int, pj.Call | None]:
        """Returns the answer to a REFER and the call that pjsip is to make for it; runs in pjsip's thread."""
        if self.refer is Refer.REJECT:
            return pj.PJSIP_SC_DECLINE, None
        self._outbound_proxy(f"sip:{self._exchange.address};lr")
        self._calls.append(pj.Call(self._account))
        return pj.PJSIP_SC_ACCEPTED, self._calls[-1]

    def dial_directly(self) -> None:
        """Has the next call go to where its URI says."""
        self._outbound_proxy()

    def _outbound_proxy(self, *uris: str) -> None:
        if tuple(self._config.sipConfig.proxies) != uris:
            self._config.sipConfig.proxies = pj.StringVector(uris)
            self._account.modify(self._config)
