#!/usr/bin/env python3
"""The server under load, over the loopback interface: nothing lost, nothing wrong, memory, and what it adds to drawing.

    python3 bench/load.py SPLAM [--model assets/teacher] [--clients 200] [--requests 2000] [--queue 64] [--csv]

Begins `splam serve` with a key for each client. A third of the requests are cancelled by their client (a closed
connection, or a deleted job), a tenth are malformed, and ten clients more send and read a few bytes at a time. Every
other request is repeated as Retry-After says until it has its picture, which has to be, byte for byte, the file that
`splam generate` writes with the same settings. At the end the line is empty and the server stops with exit code 0.

Waiting is from sending a request that was taken to its answer, less the seconds that its pictures are drawn in.
Overhead is measured alone, after the load: one client, one request after the other, without guidance, less what the
server says that drawing took; and beside `splam bench`'s times of the text encoder, four steps and the decoder, which
plan, read and write nothing. Python's own library.
"""
import argparse
import asyncio
import base64
import csv
import datetime
import json
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
PROMPTS = ("red apple", "animal bird", "blue car", "smiling face")
STEPS, SEEDS = 4, 4
COLUMNS = ("date", "machine", "version", "clients", "requests", "queue", "drawn", "cancelled", "malformed",
           "refused_429", "seconds", "waiting_p50", "waiting_p99", "overhead_p50_ms", "overhead_p99_ms",
           "over_bench_ms", "memory_early", "memory_end")


class Failure(Exception):
    """What the server must not do."""


# ---- HTTP, by hand: the tests need connections that are slow, broken or closed ----

async def connect(port):
    return await asyncio.open_connection("127.0.0.1", port)


def head(method, path, key, body=b"", more=""):
    return (f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {key}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n{more}Connection: close\r\n\r\n"
            ).encode() + body


async def read_answer(reader):
    """(code, headers, body) of an answer whose connection is closed after it."""
    data = await reader.read()
    top, _, body = data.partition(b"\r\n\r\n")
    lines = top.decode("latin-1").split("\r\n")
    if not lines[0].startswith("HTTP/1.1 "):
        raise Failure(f"no answer: {data[:80]}")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    if "content-length" in headers and int(headers["content-length"]) != len(body):
        raise Failure("an answer is cut off")
    return int(lines[0].split()[1]), headers, body


async def ask(port, method, path, key, body=b""):
    reader, writer = await connect(port)
    try:
        writer.write(head(method, path, key, body))
        await writer.drain()
        return await read_answer(reader)
    finally:
        writer.close()


# ---- requests ----

def settings(number):
    return {"prompt": PROMPTS[number % len(PROMPTS)], "steps": STEPS, "seed": number // len(PROMPTS) % SEEDS, "n": 1}


def keep(drawn, files, wanted):
    """Both files, for whoever looks for the reason."""
    paths = [os.path.join(tempfile.gettempdir(), f"load-{name}-{os.getpid()}.png") for name in ("drawn", "wanted")]
    for path, content in zip(paths, (drawn, files[wanted])):
        with open(path, "wb") as file:
            file.write(content)
    same = [i for i, content in enumerate(files) if content == drawn]
    return f"{'that of request %d' % same[0] if same else 'and none of the others'}: {' '.join(paths)}"


async def draw(load, key, number):
    """Until it has its picture."""
    body = json.dumps(settings(number)).encode()
    while True:
        began = time.monotonic()
        code, headers, answer = await ask(load.port, "POST", "/v1/images/generations", key, body)
        if code == 429:
            load.refused += 1
            await asyncio.sleep(float(headers["retry-after"]) * random.uniform(.2, 1))
            continue
        if code != 200:
            raise Failure(f"{code}: {answer[:200]}")
        load.latencies.append(time.monotonic() - began)
        drawn, wanted = base64.b64decode(json.loads(answer)["data"][0]["b64_json"]), number % len(load.files)
        if drawn != load.files[wanted]:
            raise Failure(f"request {number}: another picture than splam generate's, {keep(drawn, load.files, wanted)}")
        load.drawn += 1
        return


async def leave(load, key, number):
    """Closes the connection before the answer."""
    reader, writer = await connect(load.port)
    del reader
    writer.write(head("POST", "/v1/images/generations", key, json.dumps(settings(number)).encode()))
    await writer.drain()
    await asyncio.sleep(random.uniform(0, .5))
    writer.close()
    load.cancelled += 1


async def delete(load, key, number):
    """Submits a job and deletes it."""
    body = {**settings(number), "count": 1}
    del body["n"]
    while True:
        code, headers, answer = await ask(load.port, "POST", "/v1/jobs", key, json.dumps(body).encode())
        if code != 429:
            break
        load.refused += 1
        await asyncio.sleep(float(headers["retry-after"]) * random.uniform(.2, 1))
    if code != 202:
        raise Failure(f"a job: {code}: {answer[:200]}")
    await asyncio.sleep(random.uniform(0, .3))
    code, _, answer = await ask(load.port, "DELETE", "/v1/jobs/" + json.loads(answer)["id"], key)
    if code != 200:
        raise Failure(f"DELETE: {code}: {answer[:200]}")
    load.cancelled += 1


BROKEN = (
    ("POST", "/v1/images/generations", b'{"prompt": "a"', 400), ("POST", "/v1/jobs", b"[1, 2]", 400),
    ("POST", "/v1/jobs", b'{"prompt": "a", "steps": "many"}', 400),
    ("POST", "/sdapi/v1/txt2img", b'{"steps": -4}', 422),
    ("GET", "/nothing", b"", 404), ("PUT", "/v1/jobs", b"{}", 405),
    ("POST", "/sdapi/v1/img2img", b'{"init_images": ["AA"]}', 422),
    ("POST", "/v1/images/generations", b'{"prompt": "a", "size": "99999x99999"}', 400),
)


async def break_one(load, key, number):
    method, path, body, wanted = BROKEN[number % len(BROKEN)]
    code, _, answer = await ask(load.port, method, path, key, body)
    if code != wanted:
        raise Failure(f"{method} {path} {body}: {code}, {wanted} expected: {answer[:200]}")
    load.malformed += 1


async def crawl(load, key):
    """Sends a request a few bytes at a time, and reads its answer so."""
    while not load.done:
        reader, writer = await connect(load.port)
        data = head("POST", "/v1/images/generations", key, json.dumps(settings(0)).encode())
        try:
            for at in range(0, len(data), 8):
                writer.write(data[at:at + 8])
                await writer.drain()
                await asyncio.sleep(.05)
            while await reader.read(512) and not load.done:
                await asyncio.sleep(.01)
        except ConnectionError:
            pass  # the server may lose patience
        writer.close()


# ---- the load ----

class Load:
    def __init__(self, port, files):
        self.port, self.files, self.latencies = port, files, []
        self.drawn = self.cancelled = self.malformed = self.refused = 0
        self.done = False


async def client(load, key, numbers):
    for number in numbers:
        kind = random.random()
        if kind < 1 / 6:
            await leave(load, key, number)
        elif kind < 1 / 3:
            await delete(load, key, number)
        elif kind < 1 / 3 + .1:
            await break_one(load, key, number)
        else:
            await draw(load, key, number)


async def metrics(port, key):
    code, _, body = await ask(port, "GET", "/metrics", key)
    if code != 200:
        raise Failure(f"/metrics: {code}")
    return {m[1]: float(m[2]) for m in re.finditer(r"^(\w+(?:\{[^}]*\})?) (\S+)$", body.decode(), re.M)}


async def sample_memory(load, key, out):
    while not load.done:
        out.append((load.drawn, (await metrics(load.port, key))["process_resident_memory_bytes"]))
        await asyncio.sleep(.5)


async def wait_until_empty(port, key):
    for _ in range(600):
        m = await metrics(port, key)
        if m["splam_jobs_waiting"] == m["splam_jobs_running"] == 0:
            return m
        await asyncio.sleep(.1)
    raise Failure("the line does not empty")


async def measure_overhead(port, key, count=60):
    """Milliseconds beside drawing, and seconds of a request as a whole."""
    over, whole = [], []
    body = json.dumps({**settings(0), "guidance": 1}).encode()
    for _ in range(count):
        before = (await metrics(port, key))["splam_drawing_seconds_total"]
        began = time.monotonic()
        code, _, _ = await ask(port, "POST", "/v1/images/generations", key, body)
        took = time.monotonic() - began
        if code != 200:
            raise Failure(f"{code}")
        await wait_until_empty(port, key)
        drawing = (await metrics(port, key))["splam_drawing_seconds_total"] - before
        over.append((took - drawing) * 1e3)
        whole.append(took)
    return over, whole


async def run(a, port, keys, files):
    load, memory = Load(port, files), []
    await draw(load, keys[0], 0)
    load.latencies.clear()
    began = time.monotonic()
    shares = [range(i, a.requests, a.clients) for i in range(a.clients)]
    side = [asyncio.create_task(crawl(load, keys[a.clients + i])) for i in range(10)]
    side.append(asyncio.create_task(sample_memory(load, keys[-1], memory)))
    await asyncio.gather(*(client(load, keys[i], shares[i]) for i in range(a.clients)))
    seconds = time.monotonic() - began
    load.done = True
    await asyncio.gather(*side)
    end = await wait_until_empty(port, keys[-1])
    over, whole = await measure_overhead(port, keys[-1])
    tenths = [next((bytes for drawn, bytes in memory if drawn >= load.drawn * i // 10), 0) for i in range(1, 10)]
    return load, seconds, [*tenths, end["process_resident_memory_bytes"]], over, whole


# ---- beside it ----

def reference(splam, model, folder):
    """The files of splam generate, by the number of a request."""
    files = []
    for number in range(len(PROMPTS) * SEEDS):
        s = settings(number)
        path = os.path.join(folder, "reference.png")
        subprocess.run([splam, "generate", "-m", model, "-p", s["prompt"], "--steps", str(s["steps"]), "--seed",
                        str(s["seed"]), "-o", path], check=True, stderr=subprocess.DEVNULL)
        with open(path, "rb") as file:
            files.append(file.read())
    return files


def bench_seconds(splam, model):
    """The text, the steps and the decoding of one picture."""
    found = json.loads(subprocess.run([splam, "bench", "-m", model, "--only", "generate", "--json"], check=True,
                                      stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout)
    return found["text_encoder_seconds"] + STEPS * found["unet_forward_seconds"] + found["vae_decode_seconds"]


def percentile(values, share):
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def free_port():
    import socket
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def start(a, folder, keys, port):
    path = os.path.join(folder, "keys")
    with open(path, "w") as file:
        file.write("\n".join(keys) + "\n")
    server = subprocess.Popen([a.splam, "serve", "-m", a.model, "--listen", f"127.0.0.1:{port}", "--api-key-file", path,
                               "--queue", str(a.queue)], stderr=subprocess.DEVNULL)

    async def up():
        for _ in range(300):
            try:
                return (await ask(port, "GET", "/health", ""))[0] == 200
            except OSError:
                await asyncio.sleep(.1)
        raise Failure("the server does not begin")
    asyncio.run(up())
    return server


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("splam")
    parser.add_argument("--model", default=os.path.join(ROOT, "assets", "teacher"))
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--queue", type=int, default=64)
    parser.add_argument("--csv", action="store_true", help="append a line to bench/load.csv")
    a = parser.parse_args()
    random.seed(1)
    keys, port = [f"key-of-client-{i:06d}" for i in range(a.clients + 11)], free_port()
    with tempfile.TemporaryDirectory() as folder:
        files = reference(a.splam, a.model, folder)
        server = start(a, folder, keys, port)
        try:
            load, seconds, memory, over, whole = asyncio.run(run(a, port, keys, files))
        finally:
            server.send_signal(signal.SIGTERM)
            code = server.wait(60)
    if code:
        raise Failure(f"the server's exit code is {code}")
    drawing = statistics.median(whole) - statistics.median(over) / 1e3
    waiting = [max(0, latency - drawing) for latency in load.latencies]
    beyond = (statistics.median(whole) - bench_seconds(a.splam, a.model)) * 1e3
    row = [datetime.date.today().isoformat(), machine(), version(a.splam), a.clients, a.requests, a.queue, load.drawn,
           load.cancelled, load.malformed, load.refused, f"{seconds:.1f}", f"{percentile(waiting, .5):.2f}",
           f"{percentile(waiting, .99):.2f}", f"{percentile(over, .5):.2f}", f"{percentile(over, .99):.2f}",
           f"{beyond:.1f}", int(memory[0]), int(memory[-1])]
    for name, value in zip(COLUMNS, row):
        print(f"{name:16} {value}")
    print("memory after each tenth, MB:", " ".join(f"{bytes / 1e6:.1f}" for bytes in memory))
    if a.csv:
        append(os.path.join(ROOT, "bench", "load.csv"), row)


def machine():
    sys.path.insert(0, os.path.join(ROOT, "bench", "compare"))
    from sd import machine as described
    return described()[0]


def version(splam):
    return subprocess.run([splam, "--version"], check=True, capture_output=True, text=True).stdout.split()[1]


def append(path, row):
    new = not os.path.exists(path)
    with open(path, "a", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        if new:
            writer.writerow(COLUMNS)
        writer.writerow(row)


if __name__ == "__main__":
    main()
