"""SDP of the load's calls: what is offered is understood, and answers of others too."""

import pytest

from bench.load.sdp import Answer, offer, parse_answer


@pytest.mark.parametrize("codec, number", [("PCMU", 0), ("PCMA", 8)])
@pytest.mark.parametrize("key", [None, bytes(range(30))])
def test_what_is_offered_is_read_back(codec: str, number: int, key: bytes | None) -> None:
    assert parse_answer(offer("127.0.0.1", 4000, codec, key)) == Answer("127.0.0.1", 4000, number, key)  # type: ignore[arg-type]


def test_srtp_is_offered_in_its_own_profile() -> None:
    assert "m=audio 4000 RTP/SAVP 0\r\n" in offer("127.0.0.1", 4000, srtp_key=bytes(30))
    assert "m=audio 4000 RTP/AVP 0\r\n" in offer("127.0.0.1", 4000)


def test_the_address_of_the_stream_goes_before_that_of_the_session() -> None:
    answer = "v=0\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\nm=audio 5000 RTP/AVP 0 101\r\nc=IN IP4 192.0.2.2\r\n"
    assert parse_answer(answer) == Answer("192.0.2.2", 5000, 0, None)


@pytest.mark.parametrize("media", ["", "m=audio 0 RTP/AVP 0\r\n", "m=video 1 RTP/AVP 31\r\n"])
def test_an_answer_without_audio_is_an_error(media: str) -> None:
    with pytest.raises(ValueError, match="no audio"):
        parse_answer("v=0\r\nc=IN IP4 192.0.2.1\r\n" + media)
