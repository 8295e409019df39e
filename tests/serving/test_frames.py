"""What the server and a worker say to each other survives odd sizes and refuses nonsense."""

import socket
import struct

import pytest

from millpond.serving.frames import HEAD_BYTES, BrokenFrame, Frame, FrameBuffer, FrameReader, Kind, encode


@pytest.mark.parametrize("body", [b"", b"x", b"\0" * 70_000])
def test_a_frame_arrives_as_it_was_sent(body: bytes) -> None:
    left, right = socket.socketpair()
    with left, right:
        left.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        frame = Frame(kind=Kind.ANSWER, request_id=4_000_000_000, header={"größe": [1, None]}, body=body)
        left.sendall(encode(frame) + body)
        left.shutdown(socket.SHUT_WR)
        reader = FrameReader(right, max_body_bytes=1 << 20)
        assert reader.read() == [frame]
        assert reader.read() == []


def test_frames_that_come_together_are_read_together_and_halves_wait_for_the_rest() -> None:
    frames = [Frame(kind=Kind.PREDICT, request_id=number, header={}, body=bytes(number)) for number in range(5)]
    sent = b"".join(encode(frame) + frame.body for frame in frames)
    left, right = socket.socketpair()
    with left, right:
        reader = FrameReader(right, max_body_bytes=1 << 20)
        left.sendall(sent[:-1])
        assert reader.read() == frames[:4]
        left.sendall(sent[-1:])
        assert reader.read() == frames[4:]


@pytest.mark.parametrize("piece", [1, 7, 100, 70_000])
def test_frames_may_come_in_any_pieces(piece: int) -> None:
    frames = [Frame(kind=Kind.ANSWER, request_id=size, header={"n": size}, body=bytes(size)) for size in (0, 9, 70_000)]
    sent = b"".join(encode(frame) + frame.body for frame in frames)
    received = FrameBuffer(max_body_bytes=1 << 20)
    assert [each for at in range(0, len(sent), piece) for each in received.take(sent[at : at + piece])] == frames


@pytest.mark.parametrize("head", [(99, 0, 0, 0), (5, 0, 1 << 30, 0), (5, 0, 2, 11)])
def test_nonsense_is_refused(head: tuple[int, int, int, int]) -> None:
    packed = struct.pack("!BIIQ", *head)
    assert len(packed) == HEAD_BYTES
    with pytest.raises(BrokenFrame):
        FrameBuffer(max_body_bytes=10).take(packed)


@pytest.mark.parametrize("header", [b"{", b"[]", b"\xff", b"[" * 300])
def test_a_header_is_a_json_object(header: bytes) -> None:
    with pytest.raises(BrokenFrame):
        FrameBuffer(max_body_bytes=10).take(struct.pack("!BIIQ", 5, 0, len(header), 0) + header)
