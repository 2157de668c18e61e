#!/usr/bin/env python3
"""The server's page in Chromium, as people use it: every control, by keyboard alone, 360 pixels wide.

    tests/clients/test_page.py SPLAM [FOLDER]

Begins `splam serve` with the emoji teacher under two names and two runs to watch, and drives the pages by WebDriver
(Debian: chromium, chromium-driver). Screenshots are left in FOLDER [build/page]. The last line is "N passed, N failed".
"""
import base64
import json
import os
import re
import shutil
import sys
import tempfile
import urllib.request

from serving import ROOT, Server, check, run_tests, wait_for
from webdriver import Browser

class Page:
    """The page of one test, opened and with its lists there."""

    def __init__(self, browser, url):
        self.browser = browser
        browser.open(url + "/")
        browser.run("localStorage.clear(); sessionStorage.clear()")
        browser.open(url + "/")
        self.wait_until_filled()

    def wait_until_filled(self):
        wait_for("the list of models", lambda: self.browser.run("return document.getElementById('model').length"))
        wait_for("the defaults", lambda: self.browser.run("return document.getElementById('steps').placeholder"))

    def draw(self, **fields):
        """Fills the form, draws, and gives A1111's text of the first picture."""
        b = self.browser
        for name, value in fields.items():
            b.fill("#" + name, str(value))
        b.click("#draw")
        self.wait_until_drawn()
        return b.text("#shown pre")

    def wait_until_drawn(self):
        b = self.browser
        wait_for("the end of drawing", lambda: not b.run("return document.getElementById('draw').disabled"), 60)
        error = b.text("#error") if b.is_seen("#error") else ""
        assert not error, error

    def pictures(self):
        return self.browser.run("return [...document.querySelectorAll('#shown img')].map(i => i.naturalWidth)")


# ---- the tests: each with a browser and the address of a server ----

def test_settings_reach_the_picture(b, url):
    page = Page(b, url)
    b.run("document.getElementById('sampler').value = 'ddim'")
    text = page.draw(prompt="red apple", negative="leaf", steps=3, guidance=4, width=64, height=32, seed=42, count=2)
    check(page.pictures() == [64, 64], page.pictures())
    for part in ("red apple", "Negative prompt: leaf", "Steps: 3,", "Sampler: DDIM", "CFG scale: 4", "Seed: 42",
                 "Size: 64x32"):
        check(part in text, f"{part}: {text}")
    check(re.search(r"\d\.\d\d s", b.text("#shown figcaption")), b.text("#shown figcaption"))


def test_defaults_are_the_models(b, url):
    page = Page(b, url)
    said = b.run("return ['steps', 'guidance', 'width', 'height'].map(n => document.getElementById(n).placeholder)")
    check(all(said), said)
    text = page.draw(prompt="red apple", seed="18446744073709551615")
    check(f"Steps: {said[0]}," in text and f"Size: {said[2]}x{said[3]}" in text, text)
    check("Seed: 18446744073709551615" in text, text)


def test_seed_is_drawn(b, url):
    page = Page(b, url)
    seeds = {re.search(r"Seed: (\d+)", page.draw(prompt="red apple", steps=1))[1] for _ in range(2)}
    check(len(seeds) == 2, seeds)


def test_keyboard_alone(b, url):
    page = Page(b, url)
    b.press("Tab")
    while b.run("return document.activeElement.id") != "prompt":
        b.press("Tab")
    b.press(*"animal bird")
    b.press("Tab", "Tab", "Tab", "Tab")
    check(b.run("return document.activeElement.id") == "steps", b.run("return document.activeElement.id"))
    b.press("2")
    b.press("Enter", held="Control")
    page.wait_until_drawn()
    check("animal bird" in b.text("#shown pre") and "Steps: 2," in b.text("#shown pre"), b.text("#shown pre"))
    reached = set()
    for _ in range(60):
        b.press("Tab")
        reached.add(b.run("const e = document.activeElement; return e.id || e.textContent || e.title"))
    for name in ("theme", "prompt", "negative", "model", "sampler", "steps", "guidance", "count", "width", "height",
                 "seed", "draw", "Save", "Use its settings", "Start from it", "Compare", "Forget it", "animal bird"):
        check(name in reached, f"{name} is not reached: {reached}")
    outline = b.run("document.getElementById('theme').focus();"
                    "return getComputedStyle(document.activeElement).outlineStyle")
    check(outline != "none", outline)


def test_cancel_by_escape(b, url):
    Page(b, url)
    b.fill("#prompt", "red apple")
    b.fill("#steps", "900")
    b.click("#draw")
    wait_for("progress", lambda: b.run("return document.getElementById('progress').value") > 0)
    check(b.is_seen("#running") and " of 900" in b.text("#state"), b.text("#state"))
    b.press("Escape")
    wait_for("the end", lambda: not b.run("return document.getElementById('draw').disabled"), 10)
    check(b.text("#error") == "interrupted", b.text("#error"))


def test_preview_while_it_draws(b, url):
    page = Page(b, url)
    b.fill("#prompt", "red apple")
    b.fill("#steps", "200")
    b.click("#draw")
    wait_for("a preview", lambda: b.is_seen("#preview") and
             b.run("return document.querySelector('#preview img').naturalWidth"))
    page.wait_until_drawn()
    check(not b.is_seen("#preview"))


def test_starts_from_a_picture(b, url):
    page = Page(b, url)
    page.draw(prompt="red apple", steps=4, seed=1)
    b.click("#more > summary")
    b.click("#shown .buttons button:nth-child(3)")
    wait_for("the picture to start from", lambda: b.is_seen("#start"))
    b.run("const s = document.getElementById('strength'); s.value = .5; s.oninput()")
    text = page.draw(prompt="green apple", steps=4)
    check("Denoising strength: 0.5" in text, text)
    b.click("#start-away")
    text = page.draw(prompt="green apple", steps=4)
    check("Denoising strength" not in text, text)


def test_starts_from_a_file(b, url):
    page = Page(b, url)
    b.click("#more > summary")
    b.fill("#picture", os.path.join(ROOT, "docs", "objectives.png"))
    wait_for("the picture to start from", lambda: b.is_seen("#start"))
    text = page.draw(prompt="red apple", steps=4, width=64, height=64)
    check("Denoising strength: 0.75" in text, text)


DROP = """
const bytes = Uint8Array.from(atob(arguments[0]), c => c.charCodeAt(0)), data = new DataTransfer();
data.items.add(new File([bytes], "dropped.png", {type: "image/png"}));
document.body.dispatchEvent(new DragEvent("drop", {dataTransfer: data, bubbles: true, cancelable: true}));
"""


def test_a_dropped_picture_gives_its_settings(b, url):
    Page(b, url)
    body = json.dumps({"prompt": "a \"quoted\" apple, ripe", "negative_prompt": "leaf", "steps": 3, "seed": 7,
                       "cfg_scale": 2.5, "sampler_name": "Euler a", "width": 64, "height": 32}).encode()
    asked = urllib.request.Request(url + "/sdapi/v1/txt2img", body, {"Content-Type": "application/json"})
    picture = json.load(urllib.request.urlopen(asked))["images"][0]
    b.run(DROP, picture)
    wait_for("the question", lambda: b.is_seen("#dropped"))
    check("ripe" in b.text("#dropped-text"), b.text("#dropped-text"))
    b.click("#dropped-settings")
    names = ["prompt", "negative", "steps", "seed", "guidance", "sampler", "width", "height"]
    wait_for("the settings", lambda: b.run("return document.getElementById('seed').value"))
    values = b.run("return arguments[0].map(n => document.getElementById(n).value)", names)
    check(values == ["a \"quoted\" apple, ripe", "leaf", "3", "7", "2.5", "euler-a", "64", "32"], values)


def test_settings_without_a_place_are_said(b, url):
    Page(b, url)

    def drop(**settings):
        body = json.dumps({"prompt": "red apple", "steps": 3, "width": 64, "height": 64, **settings}).encode()
        asked = urllib.request.Request(url + "/sdapi/v1/txt2img", body, {"Content-Type": "application/json"})
        b.run(DROP, json.load(urllib.request.urlopen(asked))["images"][0])
        wait_for("the question", lambda: b.is_seen("#dropped"))
        b.click("#dropped-settings")
        wait_for("the answer", lambda: not b.is_seen("#dropped"))
        return b.text("#warnings")
    said = drop(sampler_name="DDIM", eta=.5)
    check("Eta DDIM: 0.5" in said and "Sampler" not in said, said)
    said = drop(sampler_name="DPM++ 2M Karras")
    check("Sampler: DPM++ 2M Karras" in said and "Schedule type: Karras" in said and "Eta" not in said, said)
    said = drop(sampler_name="Euler")
    check("Not taken over" not in said, said)


def test_what_is_no_picture_is_refused(b, url):
    Page(b, url)
    b.run(DROP, base64.b64encode(b"no picture at all").decode())
    wait_for("an error", lambda: b.is_seen("#error"))
    check(b.text("#error"), "an empty sentence")


def test_two_side_by_side(b, url):
    page = Page(b, url)
    b.click("#more > summary")
    b.click("#both")
    b.run("document.getElementById('other-model').selectedIndex = 1")
    b.fill("#other-steps", "1")
    b.fill("#prompt", "animal bird")
    b.fill("#steps", "8")
    b.click("#draw")
    page.wait_until_drawn()
    check("teacher, 8 steps" in b.text("#left-said"), b.text("#left-said"))
    check("other, 1 step" in b.text("#right-said"), b.text("#right-said"))
    b.run("document.getElementById('cut').focus()")
    b.press("Right", "Right")
    cut = b.run("return document.getElementById('compare').style.getPropertyValue('--cut')")
    check(cut == "52%", cut)
    box = b.run("const e = document.getElementById('compare'); e.scrollIntoView(); const r = e.getBoundingClientRect();"
                "return [r.x, r.y, r.width]")
    b.call("POST", b.session + "/actions", {"actions": [{"type": "pointer", "id": "mouse", "actions": [
        {"type": "pointerMove", "x": int(box[0] + box[2] / 4), "y": int(box[1] + 20)},
        {"type": "pointerDown", "button": 0}, {"type": "pointerUp", "button": 0}]}]})
    cut = float(b.run("return document.getElementById('compare').style.getPropertyValue('--cut')").rstrip("%"))
    check(abs(cut - 25) < 1, cut)


def test_history_stays_and_is_forgotten(b, url):
    page = Page(b, url)
    count = lambda: b.run("return document.querySelectorAll('#past button').length")  # noqa: E731
    if b.is_seen("#forget"):
        b.click("#forget")
        wait_for("an empty history", lambda: count() == 0)
    page.draw(prompt="red apple", steps=1, count=2)
    wait_for("two in the history", lambda: count() == 2)
    b.open(url + "/")
    page.wait_until_filled()
    wait_for("two in the history", lambda: count() == 2)
    check(b.run("return document.getElementById('prompt').value") == "red apple", "what was typed is there again")
    b.click("#past button")
    wait_for("the old picture", lambda: page.pictures() == [64])
    b.click("#shown .buttons button:nth-child(5)")
    wait_for("one in the history", lambda: count() == 1)
    b.click("#forget")
    wait_for("an empty history", lambda: count() == 0)


def test_two_of_the_history_are_compared(b, url):
    page = Page(b, url)
    page.draw(prompt="red apple", steps=1, count=2)
    b.click("#shown .buttons button:nth-child(4)")
    check(b.is_seen("#choosing"))
    b.press("Enter")
    wait_for("the comparison", lambda: b.is_seen("#compare"))
    check(not b.is_seen("#choosing"))


PIXELS = """
const canvas = document.createElement("canvas");
canvas.width = canvas.height = 64;
canvas.getContext("2d").drawImage(document.querySelector("#shown img"), 0, 0);
return canvas.toDataURL();
"""


def test_weights_in_prompts(b, url):
    page = Page(b, url)
    b.click("#more > summary")
    b.click("#weighted")
    weighted = page.draw(prompt="(red:1.5) apple", steps=1, seed=1)
    check("Prompt syntax" in weighted or "(red:1.5)" in weighted, weighted)
    drawn = lambda: b.run(PIXELS)  # noqa: E731
    first = drawn()
    b.click("#weighted")
    page.draw(prompt="(red:1.5) apple", steps=1, seed=1)
    check(first != drawn(), "weights make no difference")


def test_refusals_are_said(b, url):
    Page(b, url)
    b.fill("#prompt", "red apple")
    b.run("for (const n of ['width', 'height']) document.getElementById(n).value = 2048;"
          "document.getElementById('count').value = 64")
    b.click("#draw")
    wait_for("an error", lambda: b.is_seen("#error"))
    check("pixels" in b.text("#error"), b.text("#error"))
    check(not b.run("return document.getElementById('draw').disabled"))


def test_light_and_dark(b, url):
    Page(b, url)
    colour = lambda: b.run("return getComputedStyle(document.body).backgroundColor")  # noqa: E731
    before = colour()
    b.click("#theme")
    after = colour()
    check(before != after, before)
    b.open(url + "/")
    check(colour() == after, "it is not kept")


def test_telephone(b, url):
    page = Page(b, url)
    b.telephone(360, 780)
    page.draw(prompt="red apple", steps=2)
    wide, inner = b.run("return [document.documentElement.scrollWidth, innerWidth]")
    check(wide <= inner == 360, f"{wide} of {inner}")
    b.run("document.getElementById('more').open = true; document.getElementById('both').click()")
    wide = b.run("return document.documentElement.scrollWidth")
    check(wide <= 360, wide)
    small = b.run("return [...document.querySelectorAll('button, select, textarea, input:not([type=checkbox], "
                  "[type=range], [type=file])')].filter(e => e.checkVisibility() && e.getBoundingClientRect().height "
                  "< 40).map(e => e.id || e.textContent)")
    check(not small, f"too small for fingers: {small}")
    names = b.run("return [...document.querySelectorAll('input, select, textarea')].filter(e => !e.labels?.length && "
                  "!e.ariaLabel).map(e => e.id)")
    check(not names, f"without a label: {names}")


# ---- distillations that are watched ----

def metrics(folder, steps, loss):
    """Lines as `splam distill` writes them, put to those that there are."""
    with open(os.path.join(folder, "metrics.jsonl"), "a") as file:
        for i in steps:
            file.write(json.dumps({"step": i, "max_train_steps": 400, "loss": loss / i ** .5, "grad_norm": 1 / i,
                                   "learning_rate": 1e-4, "seconds": .5, "peak_rss_bytes": 500_000_000}) + "\n")


def make_runs(work):
    """Two runs with losses, validation sheets and settings."""
    folders = []
    for name, loss, skip in (("out-splam", .2, 100), ("out-lcm", .3, 200)):
        folder = os.path.join(work, name)
        os.makedirs(os.path.join(folder, "checkpoint-40"))
        metrics(folder, range(1, 101), loss)
        for step in (20, 40):
            shutil.copy(os.path.join(ROOT, "docs", "objectives.png"), os.path.join(folder, f"validation-{step}.png"))
        with open(os.path.join(folder, "checkpoint-40", "state.json"), "w") as file:
            json.dump({"settings": {"objective": name[4:], "skip": skip, "seed": 0}}, file)
        folders.append(folder)
    return folders


def open_watch(b, url):
    b.open(url + "/watch")
    b.run("localStorage.clear()")
    b.open(url + "/watch")
    wait_for("a curve", lambda: b.run("return document.querySelectorAll('#chart path').length"))


def test_watch_shows_runs(b, url):
    open_watch(b, url)
    cards = b.run("return [...document.querySelectorAll('.run')].map(e => e.textContent)")
    check(len(cards) == 2 and "out-splam" in cards[0] and "step 100 of 400" in cards[0], cards)
    check("2 steps/s" in cards[0] and "500 MB" in cards[0] and "stopped" in cards[0], cards)
    b.click(".run:nth-child(2)")
    wait_for("the other run", lambda: b.run("return document.getElementById('run').value") == "1")
    wait_for("its mark", lambda: b.run("return document.querySelectorAll('.run')[1].ariaPressed") == "true")
    names = b.run("return [...document.getElementById('series').options].map(o => o.textContent)")
    check(names == ["Loss", "Gradient's norm", "Learning rate", "Seconds of a step", "Memory"], names)
    b.click("#drawing")
    wait_for("the page that draws", lambda: b.run("return !!document.getElementById('prompt')"))
    wait_for("the way back", lambda: b.is_seen("#watched"))


def test_watch_two_over_one_another(b, url):
    open_watch(b, url)
    b.run("const s = document.getElementById('beside'); s.value = '1'; s.onchange()")
    wait_for("two curves", lambda: b.run("return document.querySelectorAll('#chart path.other:not(.raw)').length") == 1)
    read = b.text("#read")
    check(re.search(r"out-splam 0\.02.*out-lcm 0\.0[23]", read), read)
    rows = b.run("return [...document.querySelectorAll('#table tr.differs')].map(e => e.textContent)")
    check(rows == ["objectivesplamlcm", "skip100200"], rows)
    wait_for("two sheets", lambda: b.run("return document.querySelectorAll('#sheet img').length") == 2)
    wait_for("their pixels", lambda: b.run("return [...document.querySelectorAll('#sheet img')].every(i => "
                                           "i.naturalWidth)"))
    b.run("document.getElementById('cut').focus()")
    b.press("Right", "Right")
    check(b.run("return document.getElementById('sheet').style.getPropertyValue('--cut')") == "52%")
    b.run("document.getElementById('sheet-at').focus()")
    b.press("Left")
    wait_for("the sheet before", lambda: "step 20; right out-lcm, step 20" in b.text("#sheet-read"))


def test_watch_reads_by_keyboard(b, url):
    open_watch(b, url)
    reached = set()
    b.run("document.querySelector('.run').focus()")
    for _ in range(14):
        reached.add(b.run("return document.activeElement.id || document.activeElement.className"))
        b.press("Tab")
    for name in ("run", "beside", "series", "log", "smooth", "at", "sheet-at"):
        check(name in reached, f"{name} is not reached: {reached}")
    b.run("document.getElementById('at').focus()")
    before = b.text("#read")
    b.press("Left", "Left", "Left", "Left", "Left", "Left", "Left", "Left", "Left", "Left", "Left", "Left")
    check(b.text("#read") != before and b.text("#read").startswith("step 99"), b.text("#read"))


def test_watch_grows(b, url):
    open_watch(b, url)
    last = b.run("return fetch('/v1/runs').then(r => r.json()).then(j => j.data[1].step)")
    metrics(WATCHED[1], range(last + 1, last + 11), .3)
    wait_for("ten steps more", lambda: f"step {last + 10} of 400" in b.text(".run:nth-child(2)"), 15)


def test_watch_telephone(b, url):
    b.telephone(360, 780)
    open_watch(b, url)
    b.run("const s = document.getElementById('beside'); s.value = '1'; s.onchange()")
    wait_for("two sheets", lambda: b.run("return document.querySelectorAll('#sheet img').length") == 2)
    wide, inner = b.run("return [document.documentElement.scrollWidth, innerWidth]")
    check(wide <= inner == 360, f"{wide} of {inner}")
    names = b.run("return [...document.querySelectorAll('input, select')].filter(e => !e.labels?.length && "
                  "!e.ariaLabel).map(e => e.id)")
    check(not names, f"without a label: {names}")


def test_watch_dark(b, url):
    open_watch(b, url)
    b.run("const s = document.getElementById('beside'); s.value = '1'; s.onchange()")
    wait_for("two curves", lambda: b.run("return document.querySelectorAll('#chart path.other').length"))
    colour = lambda: b.run("return [getComputedStyle(document.body).backgroundColor, "  # noqa: E731
                           "getComputedStyle(document.querySelector('.other')).stroke]")
    before = colour()
    b.click("#theme")
    check(colour()[0] != before[0] and colour()[1] != before[1], before)


def test_key(b, url):
    b.open(url + "/")
    b.run("sessionStorage.clear()")
    b.open(url + "/")
    wait_for("the question for a key", lambda: b.is_seen("#key-dialog"))
    b.press(*"wrong-key-wrong-key", "Enter")
    wait_for("the question again", lambda: b.run("return document.getElementById('key-dialog').open"))
    b.complaints()  # those of 401
    b.fill("#key", KEY)
    b.press("Enter")
    wait_for("the list of models", lambda: b.run("return document.getElementById('model').length"))
    Page.wait_until_filled(type("", (), {"browser": b})())


KEY = "a-key-of-this-test"
WITH_KEYS = (test_key,)
WATCHED = []  # the folders of the runs
COMPLAINS = (test_key, test_what_is_no_picture_is_refused, test_refusals_are_said)  # the browser logs 4xx as errors


def run(test, server, folder):
    with Browser() as browser:
        try:
            test(browser, server.url)
            complaints = [] if test in COMPLAINS else browser.complaints()
            check(not complaints, complaints)
        finally:
            browser.screenshot(os.path.join(folder, test.__name__ + ".png"))


def main():
    splam, folder = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else os.path.join(ROOT, "build", "page")
    os.makedirs(folder, exist_ok=True)
    tests = [test for name, test in sorted(globals().items()) if name.startswith("test_")]
    with tempfile.TemporaryDirectory() as work:
        keys = os.path.join(work, "keys")
        with open(keys, "w") as file:
            file.write(KEY + "\n")
        WATCHED.extend(make_runs(work))
        with Server(splam, work, "--watch", *WATCHED) as plain, Server(splam, work, "--api-key-file", keys) as guarded:
            run_tests(tests, lambda test: run(test, guarded if test in WITH_KEYS else plain, folder))


if __name__ == "__main__":
    main()
