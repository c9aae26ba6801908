"""The client for programs that run on asyncio. It says and refuses what ``InferenceClient`` does.

async with await AsyncInferenceClient("gpu-box", 8000).session() as session:
    for step in await session.infer({"robot_state.ee_pose": pose, "grip": 0.0, "image.wrist": frame, ...}):
        ...
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import Any, Self

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from positronic import keys
from positronic.client.dialling import Caller, Patience
from positronic.client.protocol import (
    CLOSE_FRAME_SEC,
    HANDSHAKE_SILENCE_SEC,
    ConnectionState,
    Conversation,
    NotYetError,
    RefusalError,
    Speaker,
)
from positronic.client.session import GOODBYE_SEC
from positronic.client.status import OnStatus
from positronic.commands import ActionStep


class AsyncSession(Speaker):
    """A connection that ``AsyncInferenceClient.session`` opened; an asynchronous context manager. ``meta``: what the
    server says about itself."""

    def __init__(self, connection: ClientConnection, conversation: Conversation) -> None:
        self._connection, self._conversation = connection, conversation

    async def infer(self, observation: Mapping[str, Any]) -> list[ActionStep]:
        """Like ``Session.infer``. A task that is cancelled while it waits, by ``asyncio.timeout`` too, closes the
        session: a late answer would be taken for the next one."""
        frame = self._conversation.asked(observation)
        try:
            await self._connection.send(frame)
            return self._conversation.answered(await self._connection.recv())
        except (ConnectionClosed, OSError) as error:
            raise self._conversation.lost(error) from None
        finally:
            if self.state is not ConnectionState.READY:
                await self.close()

    async def close(self) -> None:
        """Say goodbye. Closing twice does nothing."""
        goodbye = self._conversation.goodbye()
        if goodbye is not None:
            with contextlib.suppress(ConnectionClosed, OSError):
                await self._connection.send(goodbye)
                await asyncio.wait_for(self._connection.recv(), GOODBYE_SEC)
        await self._connection.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def open(self, on_status: OnStatus) -> None:
        """Wait until the session is ready. ``AsyncInferenceClient.session`` has done so."""
        try:
            while True:
                frame = await asyncio.wait_for(self._connection.recv(), HANDSHAKE_SILENCE_SEC)
                waiting = self._conversation.opened(frame)
                if waiting is None:
                    return
                on_status(*waiting)
        except RefusalError as refusal:
            raise self._conversation.refused(refusal, await self._closing()) from None
        except TimeoutError:
            raise self._conversation.lost(f"silent for {HANDSHAKE_SILENCE_SEC:g} s") from None
        except (ConnectionClosed, OSError) as error:
            raise self._conversation.lost(error) from None
        finally:
            if self.state is not ConnectionState.READY:
                await self.close()

    async def _closing(self) -> ConnectionClosed | None:
        try:
            await asyncio.wait_for(self._connection.recv(), CLOSE_FRAME_SEC)
        except ConnectionClosed as closed:
            return closed
        except (TimeoutError, OSError):
            pass
        return None


class AsyncInferenceClient(Caller):
    """Opens sessions with one server. Parameters and errors are those of ``InferenceClient``."""

    async def models(self) -> list[str]:
        """Ids of the checkpoints that the server offers, oldest first."""
        return await self._retry(lambda: asyncio.to_thread(self._server.models))

    async def session(self, checkpoint: str | int | None = None) -> AsyncSession:
        """A ready session with ``checkpoint``, or with the server's default."""
        session = await self._retry(lambda: self._open(self._server.session_address(checkpoint)))
        self._on_status(keys.STATUS_READY, "")
        return session

    async def _open(self, address: str) -> AsyncSession:
        with self._server.judged():
            connection = await connect(address, **self._server.connect_options())
            session = AsyncSession(connection, Conversation(address, self._jpeg_quality))
            await session.open(self._on_status)
            return session

    async def _retry[T](self, attempt: Callable[[], Awaitable[T]]) -> T:
        patience = Patience(self._server, self._timeout_sec, self._on_status)
        while True:
            try:
                return await attempt()
            except NotYetError as not_yet:
                delay_sec = patience.delay_sec(not_yet)
            await asyncio.sleep(delay_sec)
