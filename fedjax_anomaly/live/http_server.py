"""A server of the standard library that a network cannot overwhelm."""

import http.server
import threading
from typing import Any


class BoundedServer(http.server.ThreadingHTTPServer):
    """A thread for each connection, and no more than so many; it listens from when it is made."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], handler: type, *, most_connections: int, retry_seconds: int) -> None:
        """Opens the port.

        Args:
          address: host and port; port 0 takes a free one.
          handler: of a connection.
          most_connections: at one time; more are answered 503.
          retry_seconds: after which they may try again.

        Raises:
          OSError: when the port cannot be opened.
        """
        super().__init__(address, handler)
        self._places, self._retry_seconds = threading.BoundedSemaphore(most_connections), retry_seconds

    def serve(self, name: str) -> None:
        """Serves in a thread of this name."""
        threading.Thread(target=self.serve_forever, args=(0.05,), name=name, daemon=True).start()

    def close(self) -> None:
        """Stops serving and frees the port."""
        self.shutdown()
        self.server_close()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Begins a thread, or refuses the connection."""
        if self._places.acquire(blocking=False):
            super().process_request(request, client_address)
            return
        request.sendall(
            f"HTTP/1.1 503 Busy\r\nRetry-After: {self._retry_seconds}\r\nContent-Length: 0\r\n"
            "Connection: close\r\n\r\n".encode()
        )
        self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serves a connection."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no error of ours."""
