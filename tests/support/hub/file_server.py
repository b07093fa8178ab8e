"""A real HTTP server on this machine, for tests of downloads."""

import contextlib
import socket
import socketserver
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the server says to a request for one path.

    Attributes
    ----------
    body : bytes
    status : int
    content_type : str
    promised_bytes : int, optional
        What the header Content-Length says; the length of ``body`` by default.
    """

    body: bytes = b""
    status: int = 200
    content_type: str = "text/plain"
    promised_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FileServer:
    """A running server.

    Attributes
    ----------
    url : str
        Its address, without a slash at the end.
    asked : list of str
        The paths that were asked for so far, in order.
    """

    url: str
    asked: list[str] = field(default_factory=list)


@contextlib.contextmanager
def serving(answers: Mapping[str, Answer]) -> Iterator[FileServer]:
    """Serve ``answers``, path -> answer, until the block ends; else status 404."""
    asked: list[str] = []
    handler = _handler(answers, asked)
    # Not HTTPServer: that one asks the network for the name of the machine.
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler) as server:
        # The default poll makes each shutdown take half a second.
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield FileServer(url=f"http://127.0.0.1:{server.server_address[1]}", asked=asked)
        finally:
            server.shutdown()
            thread.join()


@contextlib.contextmanager
def refusing() -> Iterator[str]:
    """Yield an address where every connection is refused until the block ends."""
    with socket.socket() as taken:
        # A port that is bound but not listened on is nobody else's either.
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


def _handler(answers: Mapping[str, Answer], asked: list[str]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            answer = answers.get(self.path, Answer(status=404))
            length = len(answer.body) if answer.promised_bytes is None else answer.promised_bytes
            # A client that has read enough hangs up.
            with contextlib.suppress(ConnectionError):
                self.send_response(answer.status)
                self.send_header("Content-Type", answer.content_type)
                self.send_header("Content-Length", str(length))
                self.end_headers()
                self.wfile.write(answer.body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Say nothing: http.server would print each request."""

    return Handler
