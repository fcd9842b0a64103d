"""Ports are taken, or the next one, or it is said why not."""

from __future__ import annotations

import socket

import pytest

from opsin.core.errors import RecipeError
from opsin.web.listening import bound, listen, listening


def port_of(held: socket.socket) -> int:
    return int(held.getsockname()[1])


def test_any_port_that_is_free() -> None:
    with listening("127.0.0.1", 0) as held, socket.create_connection(held.getsockname()[:2]):
        assert port_of(held) > 0


def test_the_next_port_after_one_in_use() -> None:
    with listening("127.0.0.1", 0) as first:
        port = port_of(first)
        with pytest.raises(RecipeError, match=f"Port {port} of 127.0.0.1 is in use"):
            listening("127.0.0.1", port).__enter__()
        with listening("127.0.0.1", port, further=50) as second:
            assert port < port_of(second) <= port + 50
            socket.create_connection(second.getsockname()[:2]).close()
    assert second.fileno() == -1  # closed with the block


def test_ports_end_somewhere() -> None:
    with listening("localhost", 65_535, further=20) as last:
        assert port_of(last) == 65_535
        with pytest.raises(RecipeError, match="Port 65535"):
            listening("localhost", 65_535, further=20).__enter__()


def test_an_address_that_is_held_is_not_listened_on_twice() -> None:
    with bound("127.0.0.1", 0) as first, bound("127.0.0.1", port_of(first)) as second:
        listen(first, "127.0.0.1", 1)
        with pytest.raises(RecipeError, match="Port 1 of"):
            listen(second, "127.0.0.1", 1)


@pytest.mark.parametrize("host", ["203.0.113.7", "no-such-host.invalid", "256.0.0.1"])
def test_an_address_of_somebody_else(host: str) -> None:
    with pytest.raises(RecipeError, match="no address of this machine"):
        listening(host, 0, further=3).__enter__()
