"""Caller audio as WebSocket frames, read back by aiohttp's own reader."""

import asyncio
import base64
import json

import pytest
from aiohttp import WSMsgType
from aiohttp._websocket.reader import WebSocketDataQueue, WebSocketReader
from aiohttp.base_protocol import BaseProtocol
from hypothesis import given
from hypothesis import strategies as st

from worker.voicelive.frames import append_frame


async def read_back(data: bytes) -> list[str]:
    """Returns the texts of the frames in `data`."""
    queue = WebSocketDataQueue(BaseProtocol(asyncio.get_running_loop()), 2**22, loop=asyncio.get_running_loop())
    reader = WebSocketReader(queue, 0, compress=False, decode_text=True)
    reader.feed_data(data)
    reader.feed_eof()
    texts = []
    while len(queue._buffer):
        message = await queue.read()
        assert message.type is WSMsgType.TEXT
        texts.append(message.data)
    return texts


# An empty chunk, 7-bit lengths, the ends of 16-bit ones, 64-bit ones.
@pytest.mark.parametrize("size", [0, 1, 57, 58, 59, 160, 320, 960, 1920, 49_113, 49_114, 200_000])
async def test_a_chunk_of_any_size_is_read_back(size: int) -> None:
    audio = bytes(index % 251 for index in range(size))
    [text] = await read_back(append_frame(audio))
    assert json.loads(text) == {
        "type": "input_audio_buffer.append",
        "audio": base64.b64encode(audio).decode(),
    }


@given(chunks=st.lists(st.binary(max_size=400), min_size=1, max_size=5))
def test_frames_follow_each_other(chunks: list[bytes]) -> None:
    async def check() -> None:
        texts = await read_back(b"".join(map(append_frame, chunks)))
        assert [base64.b64decode(json.loads(text)["audio"]) for text in texts] == chunks

    asyncio.run(check())


def test_no_mask_is_used_twice() -> None:
    masks = {append_frame(b"\xff" * 160)[4:8] for _ in range(2000)}
    assert len(masks) > 1990  # four random bytes may well meet once
