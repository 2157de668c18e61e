"""A server to test clients with, and how their tests are run."""
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import traceback
import urllib.request

ROOT = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
TEACHER = os.path.join(ROOT, "assets", "teacher")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_for(what, condition, seconds=30):
    """The first true answer of the condition; an error that says what was waited for."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(.05)
    raise AssertionError(f"not within {seconds} s: {what}")


class Server:
    """splam serve with two models; its address as .url."""

    def __init__(self, splam, work, *flags):
        self.port = port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        other = os.path.join(work, "other")
        if not os.path.exists(other):
            shutil.copytree(TEACHER, other)
        self.process = subprocess.Popen([splam, "serve", "-m", TEACHER, "-m", other, "--listen", f"127.0.0.1:{port}",
                                         *flags], stderr=subprocess.DEVNULL)
        wait_for("the server", self._is_up, 60)

    def _is_up(self):
        with contextlib.suppress(OSError):
            return json.load(urllib.request.urlopen(self.url + "/health"))["status"] == "ok"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(30) == 0, "the server's exit code"


def check(condition, said=""):
    assert condition, said


def run_tests(tests, run):
    """Runs each, also after failures, and leaves with an exit code; the last line is "N passed, N failed"."""
    passed = failed = 0
    for test in tests:
        try:
            run(test)
            passed += 1
            print(f"ok {test.__name__}", flush=True)
        except Exception:  # of any kind: the next test is tried
            failed += 1
            print(f"not ok {test.__name__}\n{traceback.format_exc()}", flush=True)
    print(f"{passed} passed, {failed} failed")
    sys.exit(failed > 0)
