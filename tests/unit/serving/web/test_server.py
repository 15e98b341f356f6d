"""The socket of the service."""

import asyncio
import socket

import pytest
import uvicorn
from starlette.responses import Response
from uvicorn.server import ServerState

from segpipe.serving.limits import Limits
from segpipe.serving.web.server import _protocol_with, bind_socket


def test_answers_do_not_wait_for_the_clients_acknowledgement() -> None:
    async def read_option() -> int:
        found = asyncio.get_running_loop().create_future()

        def connected(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            found.set_result(writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        with bind_socket("127.0.0.1", 0) as bound:
            async with await asyncio.start_server(connected, sock=bound):
                _, writer = await asyncio.open_connection(*bound.getsockname())
                option = await found
                writer.close()
                return int(option)

    assert asyncio.run(read_option())


ANSWER_BYTES, UNREAD_SECONDS = 8 << 20, 1.0


async def is_kept(read_bytes: int, num_requests: int) -> bool:
    """Whether a connection is kept whose client takes so many bytes of its answers five times a second."""
    protocol = _protocol_with(Limits(unread_seconds=UNREAD_SECONDS))
    config = uvicorn.Config(Response(bytes(ANSWER_BYTES)), http=protocol, lifespan="off", log_config=None)
    config.load()
    state, loop = ServerState(), asyncio.get_running_loop()
    with bind_socket("127.0.0.1", 0) as bound, socket.socket() as client:
        bound.listen()
        server = await loop.create_server(lambda: protocol(config=config, server_state=state, app_state={}), sock=bound)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        client.setblocking(False)
        await loop.sock_connect(client, bound.getsockname())
        await loop.sock_sendall(client, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * num_requests)
        for _ in range(15):
            await asyncio.sleep(0.2)
            if not state.connections:
                break
            if read_bytes:
                await loop.sock_recv(client, read_bytes)
        kept = bool(state.connections)
        for connection in list(state.connections):
            connection.transport.abort()
        server.close()
        await asyncio.sleep(0)
        return kept


@pytest.mark.parametrize("num_requests", [1, 50])
def test_a_client_that_takes_nothing_of_its_answers_is_cut_off(num_requests: int) -> None:
    assert not asyncio.run(is_kept(0, num_requests))


def test_a_client_that_reads_slowly_is_not() -> None:
    assert asyncio.run(is_kept(1 << 18, 1))
