#!/usr/bin/env python3
"""splam serve and stable-diffusion.cpp's sd-server side by side: both asked the same over A1111's interface.

    servers.py SPLAM MODEL --sd-server PROGRAM [--pixels 256] [--steps 4] [--alone 3] [--clients 4] [--requests 4]
               [--threads 2] [--only time|conduct] [--csv FILE]

MODEL is one .safetensors file that both open (splam convert --single-file). One server runs at a time, listening on
the loopback interface alone. Both draw with Euler without guidance, with all else as it is by default.

time      seconds from the start to the first answer, of the first picture (which plans and packs), of a picture when
          one client asks for one after the other (median), of a picture when all clients ask at once (the whole time
          by the pictures), the median and longest wait of these, and the process's peak memory; and the processor's
          seconds of a picture, alone and at once, which are what counts with one thread on a machine that has other
          work. Pictures are looked at: one of a single colour is none.
conduct   what becomes of requests that are malformed, of clients that leave, and of more requests than may wait
          (splam's --queue 2): HTTP statuses, seconds until the next client has its picture, whether the server is
          still there.

--csv appends a line for each server to a file, of `time` alone. Python's own library.
"""
import argparse
import base64
import csv
import datetime
import http.client
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import zlib

COLUMNS = ("date", "machine", "server", "version", "model", "pixels", "steps", "threads", "start_seconds",
           "first_seconds", "alone_seconds", "alone_processor", "clients", "requests", "together_seconds",
           "together_processor", "wait_p50", "wait_max", "peak_rss_bytes")
LIMIT = 3600  # seconds that an answer may take
BROKEN = (("no JSON", b'{"prompt": "a"'), ("a list", b"[1, 2]"),
          ("steps that are a text", b'{"prompt": "a", "steps": "many"}'),
          ("negative steps", b'{"prompt": "a", "steps": -4, "width": 64, "height": 64}'),
          ("an unknown sampler", b'{"prompt": "a", "steps": 1, "width": 64, "height": 64, "sampler_name": "Magic"}'),
          ("a width of 99999", b'{"prompt": "a", "steps": 1, "width": 99999, "height": 64}'))


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Server:
    def __init__(self, name, command, port, log):
        self.name, self.port, self.log = name, port, log
        began = time.monotonic()
        self.process = subprocess.Popen(command, stdout=log, stderr=log)
        while not self.is_there():
            if self.process.poll() is not None or time.monotonic() - began > LIMIT:
                raise SystemExit(f"{name} does not begin, see {log.name}")
            time.sleep(.05)
        self.start_seconds = time.monotonic() - began

    def is_there(self):
        try:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
            connection.request("GET", "/")
            return connection.getresponse().status == 200
        except OSError:
            return False

    def peak(self):
        with open(f"/proc/{self.process.pid}/status") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))

    def processor(self):
        """Seconds that it has had of the processor."""
        with open(f"/proc/{self.process.pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def ask(self, body):
        """(status, answer) of a request; 0: the connection was closed without one."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=LIMIT)
        try:
            connection.request("POST", "/sdapi/v1/txt2img", body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (http.client.HTTPException, OSError) as error:
            return 0, str(error).encode()
        finally:
            connection.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def settings(a, seed, **more):
    return json.dumps({"prompt": "a lighthouse by the sea", "width": a.pixels, "height": a.pixels, "steps": a.steps,
                       "cfg_scale": 1, "seed": seed, "sampler_name": "Euler", **more}).encode()


def is_picture(png):
    """Whether it has more than one colour: filtered rows of one colour are zeros behind the first pixel."""
    at, data = 8, b""
    while at < len(png):
        length = int.from_bytes(png[at:at + 4], "big")
        if png[at + 4:at + 8] == b"IDAT":
            data += png[at + 8:at + 8 + length]
        at += 12 + length
    return len(set(zlib.decompress(data))) > 64


def draw(server, a, seed):
    """Seconds of a request, which has to have its picture."""
    began = time.monotonic()
    status, answer = server.ask(settings(a, seed))
    took = time.monotonic() - began
    if status != 200:
        raise SystemExit(f"{server.name}: {status}: {answer[:300]}")
    picture = base64.b64decode(json.loads(answer)["images"][0])
    if not is_picture(picture):
        raise SystemExit(f"{server.name}: a picture of one colour")
    return took


def together(count, act):
    """Seconds of each of so many threads, and of all."""
    seconds, began = [], time.monotonic()
    threads = [threading.Thread(target=lambda i=i: seconds.append(act(i))) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return seconds, time.monotonic() - began


def measure(server, a):
    first, used, waits = draw(server, a, 1), [server.processor()], []
    alone = statistics.median(draw(server, a, 2 + i) for i in range(a.alone))
    used.append(server.processor())

    def client(i):
        for number in range(i, a.requests, a.clients):
            waits.append(draw(server, a, 100 + number))
    _, whole = together(a.clients, client)
    used.append(server.processor())
    if len(waits) != a.requests:
        raise SystemExit(f"{server.name}: {len(waits)} of {a.requests} requests have a picture")
    return [f"{server.start_seconds:.1f}", f"{first:.2f}", f"{alone:.2f}", f"{(used[1] - used[0]) / a.alone:.2f}",
            a.clients, a.requests, f"{whole / a.requests:.2f}", f"{(used[2] - used[1]) / a.requests:.2f}",
            f"{statistics.median(waits):.2f}", f"{max(waits):.2f}", server.peak()]


def conduct(server, a):
    for name, body in BROKEN:
        status, answer = server.ask(body)
        print(f"{server.name}: {name}: {status or 'no answer'} {answer[:100]!r}", flush=True)
    if not server.is_there():
        print(f"{server.name}: is gone (exit code {server.process.poll()})")
        return
    took = draw(server, a, 1)
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    connection.request("POST", "/sdapi/v1/txt2img", settings(a, 2, steps=10 * a.steps),
                       {"Content-Type": "application/json"})
    time.sleep(2)
    connection.close()
    print(f"{server.name}: a client that asked for {10 * a.steps} steps has left; the next one's picture, alone in"
          f" {took:.1f} s: in {draw(server, a, 3):.1f} s", flush=True)
    codes, _ = together(8, lambda i: server.ask(settings(a, 10 + i))[0])
    print(f"{server.name}: eight requests at once: {sorted(codes)}; there: {server.is_there()}", flush=True)


def commands(a):
    """(name, version, command without the port) of each."""
    version = subprocess.run([a.splam, "--version"], capture_output=True, text=True, check=True).stdout.split()[1]
    yield "splam", version, [a.splam, "serve", "-m", a.model, "--threads", str(a.threads), "--listen", "127.0.0.1:{}",
                             *(("--queue", "2") if a.only == "conduct" else ())]
    if a.sd_server:
        said = subprocess.run([a.sd_server, "--version"], capture_output=True, text=True, check=True).stdout.split()
        yield "sd-server", a.sd_version or said[-1], [a.sd_server, "-m", a.model, "-t", str(a.threads), "--listen-ip",
                                                      "127.0.0.1", "--listen-port", "{}"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("splam")
    parser.add_argument("model")
    parser.add_argument("--sd-server")
    parser.add_argument("--sd-version", help="what its version is, if it does not know")
    for name, value in (("pixels", 256), ("steps", 4), ("alone", 3), ("clients", 4), ("requests", 4), ("threads", 2)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--only", choices=("time", "conduct"), default="time")
    parser.add_argument("--csv")
    a = parser.parse_args()
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    from sd import machine
    for name, version, command in commands(a):
        port = free_port()
        with tempfile.NamedTemporaryFile("w", prefix=f"{name}-", suffix=".log", delete=False) as log, \
                Server(name, [part.format(port) for part in command], port, log) as server:
            if a.only == "conduct":
                conduct(server, a)
                continue
            row = [datetime.date.today().isoformat(), machine()[0], name, version, os.path.basename(a.model), a.pixels,
                   a.steps, a.threads, *measure(server, a)]
        print("\n".join(f"{column:16} {value}" for column, value in zip(COLUMNS, row)), flush=True)
        if a.csv:
            new = not os.path.exists(a.csv)
            with open(a.csv, "a", newline="") as file:
                writer = csv.writer(file, lineterminator="\n")
                writer.writerows(([COLUMNS] if new else []) + [row])


if __name__ == "__main__":
    main()
