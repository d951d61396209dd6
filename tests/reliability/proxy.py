"""A network between worker and server that can be cut: a TCP proxy in a thread."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self

from psycopg.conninfo import conninfo_to_dict, make_conninfo


class Proxy:
    """Forwards connections to a server whose address may change; cut, it swallows everything.

    A cut is a black hole: neither side hears of it, and new connections are taken but not served.
    """

    def __init__(self, url: str) -> None:
        self.aim(url)
        self._through = threading.Event()
        self._through.set()
        self._sockets: list[socket.socket] = []
        self._ended = False
        self._listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._accept, daemon=True).start()

    def aim(self, url: str) -> None:
        """Forward new connections to this server."""
        where = conninfo_to_dict(url)
        self._given = url
        self._target = (str(where["host"]), int(str(where["port"])))

    @property
    def url(self) -> str:
        """How to connect through it."""
        host, port = self._listener.getsockname()
        return make_conninfo(**{**conninfo_to_dict(self._given), "host": host, "port": port})

    def cut(self) -> None:
        """Swallow everything from now on."""
        self._through.clear()

    def heal(self, *, reset: bool) -> None:
        """Let everything through again, or reset what was connected before the cut."""
        if reset:
            self.drop()
        self._through.set()

    def drop(self) -> None:
        """Close every connection."""
        sockets, self._sockets = self._sockets, []
        for each in sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ended = True
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.drop()
        self._through.set()

    def _accept(self) -> None:
        while not self._ended:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._sockets.append(client)
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        self._through.wait()
        try:
            server = socket.create_connection(self._target, timeout=5)
        except OSError:
            client.close()
            return
        server.settimeout(None)
        self._sockets.append(server)
        threading.Thread(target=self._pump, args=(client, server), daemon=True).start()
        self._pump(server, client)

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                self._through.wait()
                sink.sendall(data)
        for each in (source, sink):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
