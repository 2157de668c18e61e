"""A browser under its WebDriver (W3C), with Python's own library: what the test of the page needs of it."""
import base64
import json
import subprocess
import urllib.error
import urllib.request

from serving import free_port, wait_for

ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
KEYS = {"Tab": "\ue004", "Enter": "\ue007", "Escape": "\ue00c", "Space": "\ue00d", "Left": "\ue012", "Right": "\ue014",
        "Control": "\ue009", "Shift": "\ue008", "Backspace": "\ue003"}


class Browser:
    """Chromium without a window. Closed by leaving the with block."""

    def __init__(self, width=1280, height=900):
        port = free_port()
        self.base = f"http://127.0.0.1:{port}"
        self.driver = subprocess.Popen(["chromedriver", f"--port={port}"], stdout=subprocess.DEVNULL,
                                       stderr=subprocess.DEVNULL)
        wait_for("chromedriver", self._is_ready)
        arguments = ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage", f"--window-size={width},{height}"]
        chrome = {"args": arguments, "prefs": {"download.default_directory": "/tmp"}}
        session = self.call("POST", "/session", {"capabilities": {"alwaysMatch": {
            "goog:chromeOptions": chrome, "goog:loggingPrefs": {"browser": "ALL"}}}})
        self.session = "/session/" + session["sessionId"]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        try:
            self.call("DELETE", self.session)
        finally:
            self.driver.terminate()
            self.driver.wait()

    def _is_ready(self):
        try:
            return self.call("GET", "/status")["ready"]
        except OSError:
            return False

    def call(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.base + path, data, {"Content-Type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{path}: {json.load(error)['value']['message']}") from None

    def open(self, url):
        self.call("POST", self.session + "/url", {"url": url})

    def run(self, script, *arguments):
        return self.call("POST", self.session + "/execute/sync", {"script": script, "args": list(arguments)})

    def find(self, selector):
        return self.call("POST", self.session + "/element", {"using": "css selector", "value": selector})

    def click(self, selector):
        self.call("POST", f"{self.session}/element/{self.find(selector)[ELEMENT]}/click", {})

    def fill(self, selector, text):
        """Types into an emptied field; a file field gets the path."""
        element = self.find(selector)[ELEMENT]
        self.run("if (arguments[0].type !== 'file') arguments[0].value = ''", {ELEMENT: element})
        self.call("POST", f"{self.session}/element/{element}/value", {"text": text})

    def press(self, *keys, held=None):
        """Keys for whatever has the focus, by their names in KEYS or as characters."""
        around = [KEYS[held]] if held else []
        actions = [{"type": "keyDown", "value": key} for key in around]
        for key in keys:
            actions += [{"type": kind, "value": KEYS.get(key, key)} for kind in ("keyDown", "keyUp")]
        actions += [{"type": "keyUp", "value": key} for key in around]
        self.call("POST", self.session + "/actions", {"actions": [{"type": "key", "id": "keys", "actions": actions}]})

    def text(self, selector):
        return self.run("return document.querySelector(arguments[0])?.textContent ?? ''", selector)

    def is_seen(self, selector):
        return self.run("const e = document.querySelector(arguments[0]); return !!e && e.checkVisibility()", selector)

    def screenshot(self, path):
        with open(path, "wb") as file:
            file.write(base64.b64decode(self.call("GET", self.session + "/screenshot")))

    def telephone(self, width, height):
        self.call("POST", self.session + "/goog/cdp/execute", {
            "cmd": "Emulation.setDeviceMetricsOverride",
            "params": {"width": width, "height": height, "deviceScaleFactor": 2, "mobile": True}})

    def complaints(self):
        """What the browser has written as errors since the last call."""
        log = self.call("POST", self.session + "/se/log", {"type": "browser"})
        return [entry["message"] for entry in log if entry["level"] == "SEVERE"]
