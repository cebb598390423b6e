"""What an operator reads where a peer or a port cannot be reached, asked of the real system."""

import os
import socket
from contextlib import closing

import pytest

from gateway.core.errors import LinkRefused
from protocols.reach import unopened, unreached


def test_a_port_at_which_nothing_listens() -> None:
    with closing(socket.socket()) as held, closing(socket.socket()) as client:
        held.bind(("127.0.0.1", 0))
        with pytest.raises(OSError, match="refused") as refused:
            client.connect(held.getsockname())
    assert unreached(refused.value).startswith("nothing listens there; see")
    wrapped = RuntimeError(f"Unable to connect: {refused.value}")
    assert unreached(wrapped) == unreached(refused.value)


def test_a_name_that_nobody_knows() -> None:
    with pytest.raises(socket.gaierror) as unknown:
        socket.getaddrinfo("no-such-host.invalid", 502)
    assert unreached(unknown.value).startswith("no such host is known; see")


def test_a_peer_that_hangs_up() -> None:
    ours, theirs = socket.socketpair()
    theirs.close()
    with closing(ours), pytest.raises(BrokenPipeError) as ended:
        ours.send(b"x")
    assert unreached(ended.value).startswith("the other end closed the connection; see")
    asyncua_says = ConnectionError("Connection is closed")
    assert unreached(asyncua_says) == unreached(ended.value)


def test_an_error_without_a_word_gives_at_least_its_kind() -> None:
    assert unreached(RuntimeError()) == "RuntimeError"


@pytest.mark.parametrize(
    ("path", "said"), [("/dev/no-such-port", "is not there; plug it in"), ("/", "cannot be opened")]
)
def test_a_serial_port_that_cannot_be_opened(path: str, said: str) -> None:
    with pytest.raises(OSError, match=path) as failed:
        os.open(path, os.O_RDWR)
    assert said in str(unopened(path, failed.value))


def test_a_port_that_a_person_must_free() -> None:
    for error in (PermissionError(13, "denied"), OSError(16, "busy")):
        assert isinstance(unopened("/dev/ttyUSB0", error), LinkRefused)
