"""A gateway before an agent: HTTP of our own, which passes on what comes below a path, and nothing else."""

from __future__ import annotations

import http.client
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType

__all__ = ["Gateway"]


class Gateway:
    """Passes requests below ``/consul`` on to an agent.

    Args:
        address: the agent's, ``host:port``.

    Attributes:
        address: the gateway's, with its path.
        refused: paths of requests that were not below it.
    """

    def __init__(self, address: str) -> None:
        gateway = self
        self.refused: list[str] = []

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_PUT(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                if not self.path.startswith("/consul/v1/"):
                    gateway.refused.append(self.path)
                    self._say(404, {}, b"<html>no such page</html>")
                    return
                headers = {name: value for name, value in self.headers.items() if name.lower() != "host"}
                connection = http.client.HTTPConnection(address)
                try:
                    connection.request(self.command, self.path.removeprefix("/consul"), body or None, headers)
                    answer = connection.getresponse()
                    index = answer.getheader("X-Consul-Index")
                    self._say(answer.status, {} if index is None else {"X-Consul-Index": index}, answer.read())
                except OSError:  # the agent has ended
                    self.close_connection = True
                finally:
                    connection.close()

            do_GET = do_PUT

            def _say(self, status: int, headers: dict[str, str], body: bytes) -> None:
                self.send_response(status)
                for name, value in (*headers.items(), ("Content-Length", str(len(body)))):
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: object, client_address: object) -> None:
                pass  # the client has gone

        self._server = Server(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}/consul"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    def __enter__(self) -> Gateway:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
