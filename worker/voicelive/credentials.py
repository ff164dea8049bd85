"""As whom sessions are opened: API keys, and Microsoft Entra where a resource has none. It opens no session."""

from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

from azure.core.credentials import AzureKeyCredential
from azure.core.credentials_async import AsyncTokenCredential

from shared.agents.model import Resource


class Credentials:
    """Those of a worker, as a context manager: Entra's is one for all, and caches its tokens."""

    def __init__(self) -> None:
        self._stack = AsyncExitStack()
        self._entra: AsyncTokenCredential | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def prepare(self, resource: Resource) -> None:
        """Makes ready what this resource needs: importing Entra's takes half a second, and 34 MB, if it is needed."""
        if resource.api_key is None and self._entra is None:
            from azure.identity.aio import DefaultAzureCredential

            self._entra = await self._stack.enter_async_context(DefaultAzureCredential())

    def of(self, resource: Resource) -> AzureKeyCredential | AsyncTokenCredential:
        """Returns the credential for a resource that was prepared."""
        if resource.api_key is not None:
            return AzureKeyCredential(resource.api_key.get_secret_value())
        assert self._entra is not None, "prepared first"
        return self._entra
