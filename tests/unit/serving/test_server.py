"""The socket of the service."""

import asyncio
import socket

from segpipe.serving.server import bind_socket


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
