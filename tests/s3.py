"""An object store on this machine that speaks S3, and what may go wrong with one."""

import logging
import os
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

REFUSALS = {503: ("503 Slow Down", "SlowDown"), 403: ("403 Forbidden", "AccessDenied")}
ACCESS = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_DEFAULT_REGION": "us-east-1"}


class Faults:
    """In front of a server: refuses requests that it is told to, and counts them."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.refused = 0
        self.refuse: Callable[[str, str], int] = lambda method, path: 0

    def __call__(self, environ: Any, start: Any) -> Iterable[bytes]:
        code = self.refuse(environ["REQUEST_METHOD"], environ["PATH_INFO"])
        if not code:
            return self.app(environ, start)
        self.refused += 1
        environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        line, name = REFUSALS[code]
        text = f"<?xml version='1.0'?><Error><Code>{name}</Code><Message>no</Message></Error>"
        start(line, [("Content-Type", "application/xml"), ("Content-Length", str(len(text)))])
        return [text.encode()]


class Server:
    """A running server."""

    def __init__(self, url: str, faults: Faults) -> None:
        self.url, self.faults = url, faults

    def bucket(self) -> str:
        """A new bucket."""
        import boto3

        name = f"b{uuid.uuid4().hex[:12]}"
        boto3.client("s3", endpoint_url=self.url).create_bucket(Bucket=name)
        return name


@contextmanager
def served() -> Iterator[Server]:
    """A server of S3 for all tests of a session."""
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    faults = Faults(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, faults, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}"
    before = {name: os.environ.get(name) for name in [*ACCESS, "AWS_ENDPOINT_URL"]}
    os.environ.update(ACCESS, AWS_ENDPOINT_URL=url)
    try:
        yield Server(url, faults)
    finally:
        server.shutdown()
        thread.join()
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
