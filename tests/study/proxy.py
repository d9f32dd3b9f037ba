"""A way to a server on which the answer to a COMMIT gets lost."""

import socket
import threading
from contextlib import suppress
from typing import Self


class Proxy:
    """Passes everything on. While `cut` is above 0, it lets a COMMIT through, and swallows the answer with the line."""

    def __init__(self, port: int) -> None:
        self.server, self.cut, self.cuts = port, 0, 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self.server))
                threading.Thread(target=self._pass, args=(client, server), daemon=True).start()

    def _pass(self, client: socket.socket, server: socket.socket) -> None:
        swallow = threading.Event()
        back = threading.Thread(target=self._back, args=(client, server, swallow), daemon=True)
        back.start()
        with client, server, suppress(OSError):
            while data := client.recv(65536):
                if self.cut and b"COMMIT\0" in data:
                    self.cut, self.cuts = self.cut - 1, self.cuts + 1
                    swallow.set()
                    server.sendall(data)
                    break
                server.sendall(data)
            server.shutdown(socket.SHUT_WR)
            back.join(10)  # the server has carried out what it was sent, and then closes

    def _back(self, client: socket.socket, server: socket.socket, swallow: threading.Event) -> None:
        with suppress(OSError):
            while data := server.recv(65536):
                if not swallow.is_set():
                    client.sendall(data)
