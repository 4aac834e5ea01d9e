import http.server
import socket
import threading
import time
from types import SimpleNamespace

import pytest
from helpers import CONTEXT, SCRIPTS, Process, make_archive, make_tree

if CONTEXT.get_start_method() == "forkserver":
    from multiprocessing import forkserver  # not on every system

    forkserver.ensure_running()  # it imports torch while the tests are collected


@pytest.fixture(scope="session")
def tree(tmp_path_factory):
    """A small image tree that no test changes."""
    return make_tree(tmp_path_factory.mktemp("data") / "tiny tree")


@pytest.fixture(scope="session")
def archive(tmp_path_factory):
    """A small CIFAR-10 archive that no test changes, and its checksums."""
    path = tmp_path_factory.mktemp("archive") / "cifar-10-python.tar.gz"
    return path, make_archive(path)


@pytest.fixture(scope="session")
def finished(tree, tmp_path_factory):
    """Every script, run for two epochs in a folder of its own: {script: (result, folder)}."""
    runs = {}
    for pair in (SCRIPTS[:2], SCRIPTS[2:4], SCRIPTS[4:6], SCRIPTS[6:]):  # two at a time
        folders = {script: tmp_path_factory.mktemp("finished") for script in pair}
        started = [
            Process(script, "--data", tree, "--epochs", 2, cwd=folder, attention=True)
            for script, folder in folders.items()
        ]
        for script, process in zip(pair, started, strict=True):
            runs[script] = process.wait(), folders[script]
    return runs


@pytest.fixture
def server(archive):
    """An HTTP server on this machine that delivers the archive, or fails in the way that the path names."""
    content = archive[0].read_bytes()
    requests = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def answer(self, body: bytes, length: object = None, status: int = 200) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body) if length is None else length))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self):
            requests.append(self.path)
            match self.path[1:]:
                case "good":
                    self.answer(content)
                case "slow":
                    time.sleep(0.1)
                    self.answer(content)
                case "redirect" | "loop" as name:
                    self.send_response(302)
                    self.send_header("Location", "/good" if name == "redirect" else "/loop")
                    self.end_headers()
                case "missing":
                    self.answer(b"", status=404)
                case "wrong":
                    self.answer(bytes(len(content)))
                case "truncate":
                    self.answer(content[:1000], length=len(content))
                case "lie":
                    self.answer(content, length=1000)
                case "nonsense":
                    self.answer(content, length="many")
                case "gibberish":
                    self.wfile.write(b"not HTTP\r\n\r\n")
                case "stall":
                    self.answer(content[:1000], length=len(content))
                    done.wait(300)
                case "silent":
                    done.wait(300)

    done = threading.Event()
    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=httpd.serve_forever, args=(0.01,), daemon=True).start()
    closed = socket.create_server(("127.0.0.1", 0))
    refused = closed.getsockname()[1]
    closed.close()  # a port where nobody listens

    def url(name: str) -> str:
        return f"http://127.0.0.1:{refused if name == 'refuse' else httpd.server_port}/{name}"

    yield SimpleNamespace(url=url, requests=requests)
    done.set()
    httpd.shutdown()
    httpd.server_close()
