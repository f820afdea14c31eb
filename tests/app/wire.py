"""A wire to a server that can be cut: a TCP relay on this machine, for tests of dropped connections."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress


class Wire:
    """Relays a free port of this machine to the server at `url`; `cut` drops every connection, `down` refuses new ones."""

    def __init__(self, url: str):
        host, _, port = url.removeprefix("http://").partition(":")
        self._to = host, int(port)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self.down = False
        self._open: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> int:
        """Drop every connection; returns how many sockets there were."""
        there = list(self._open)
        for end in there:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        self._open.clear()
        return len(there)

    def close(self) -> None:
        """End the wire."""
        self.down = True
        self._listening.close()
        self.cut()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listening.accept()
                if self.down:
                    near.close()
                    continue
                far = socket.create_connection(self._to)
                self._open |= {near, far}
                for a, b in ((near, far), (far, near)):
                    threading.Thread(target=self._pump, args=(a, b), daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                target.sendall(data)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
            self._open.discard(end)
