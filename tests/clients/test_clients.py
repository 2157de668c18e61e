#!/usr/bin/env python3
"""Clients that people use, against the server: webuiapi (A1111's interface) and openai; schemathesis of what
/openapi.json describes.

    tests/clients/test_clients.py SPLAM

Packages: requirements.txt; `make test-clients` puts them into an environment of their own. The last line is "N passed,
N failed".
"""
import base64
import io
import os
import subprocess
import sys
import tempfile
import threading
import urllib.request

import openai
import webuiapi
from PIL import Image

from serving import TEACHER, Server, check, run_tests, wait_for

KEY = "a-key-of-this-test"


class Clients:
    """Both clients of one server, with a key."""

    def __init__(self, splam, server, work):
        self.splam, self.work, self.url = splam, work, server.url
        self.a1111 = webuiapi.WebUIApi("127.0.0.1", server.port, sampler="Euler", steps=4, username="user",
                                       password=KEY)
        self.openai = openai.OpenAI(base_url=server.url + "/v1", api_key=KEY, max_retries=0)
        self.stranger = openai.OpenAI(base_url=server.url + "/v1", api_key="not-a-key-of-this-test", max_retries=0)

    def generate(self, *flags):
        """The picture of the command line with these settings."""
        path = f"{self.work}/picture.png"
        subprocess.run([self.splam, "generate", "-m", TEACHER, "-o", path, *flags], check=True,
                       stderr=subprocess.DEVNULL)
        with Image.open(path) as picture:
            return picture.copy()


def fails(act, *kinds):
    """The error that something ends with, of one of these kinds."""
    try:
        act()
    except kinds as error:
        return error
    raise AssertionError("it does not fail")


# ---- A1111 ----

def test_webuiapi_txt2img(c):
    # The client sends its own sampler, too, as sampler_index.
    r = c.a1111.txt2img(prompt="red apple", negative_prompt="leaf", seed=7, cfg_scale=4, width=64, height=32, steps=3,
                        sampler_name="DPM++ 2M")
    check(r.image.size == (64, 32), r.image.size)
    check(r.info["seed"] == 7 and r.info["steps"] == 3 and r.info["sampler_name"] == "DPM++ 2M", r.info)
    own = c.generate("-p", "red apple", "-n", "leaf", "--seed", "7", "--guidance", "4", "-W", "64", "-H", "32",
                     "--steps", "3", "--sampler", "dpm++2m", "--prompt-syntax", "weighted")
    check(r.image.tobytes() == own.tobytes(), "another picture than the command line's")


def test_webuiapi_ddim(c):
    # The client sends eta 1, which is DDIM's own in A1111 as it is here.
    def asked(**more):
        return c.a1111.txt2img(prompt="red apple", seed=7, width=64, height=64, steps=4, sampler_name="DDIM",
                               cfg_scale=4, **more)
    for eta, r in (("1", asked()), ("0", asked(eta=0)), ("0.5", asked(eta=.5))):
        own = c.generate("-p", "red apple", "--seed", "7", "--guidance", "4", "-W", "64", "-H", "64", "--steps", "4",
                         "--sampler", "ddim", "--eta", eta, "--prompt-syntax", "weighted")
        check(r.image.tobytes() == own.tobytes(), f"eta {eta}: another picture than the command line's")
        check(r.info["extra_generation_params"] == ({} if eta == "0" else {"Eta DDIM": float(eta)}), r.info)
        check(("Eta DDIM" in r.info["infotexts"][0]) == (eta != "0"), r.info)


def test_webuiapi_batches(c):
    r = c.a1111.txt2img(prompt="red apple", batch_size=2, n_iter=2, width=64, height=64, seed=3)
    check(len(r.images) == 4 and r.info["all_seeds"] == [3, 4, 5, 6], r.info)


def test_webuiapi_img2img_and_png_info(c):
    first = c.a1111.txt2img(prompt="red apple", seed=1, width=64, height=64).image
    r = c.a1111.img2img(images=[first], prompt="green apple", denoising_strength=.6, seed=2, width=64, height=64)
    check(r.image.size == (64, 64) and r.info["denoising_strength"] == .6, r.info)
    check("green apple" in c.a1111.png_info(r.image).info, "png_info")


def test_webuiapi_progress_and_interrupt(c):
    found = []
    drawing = threading.Thread(target=lambda: found.append(
        c.a1111.txt2img(prompt="red apple", steps=900, width=64, height=64)))
    drawing.start()
    p = wait_for("progress with a picture", lambda: (p := c.a1111.get_progress())["progress"] > 0 and
                 p["current_image"] and p)
    check(Image.open(io.BytesIO(base64.b64decode(p["current_image"]))).size[0] > 0)
    check(p["state"]["sampling_steps"] == 900 and p["eta_relative"] > 0, p)
    c.a1111.interrupt()
    drawing.join(20)
    check(found and not found[0].images, "an interrupted request has what was drawn")
    c.a1111.util_wait_for_ready(.1)


def test_webuiapi_lists(c):
    check("Euler a" in c.a1111.util_get_sampler_names(), "samplers")
    check("automatic" in c.a1111.util_get_scheduler_names(), "schedulers")
    names = c.a1111.util_get_model_names()
    check(len(names) == 2 and any(n.startswith("teacher") for n in names), names)
    check(c.a1111.get_loras() == [] and "loaded" in c.a1111.get_embeddings(), "loras, embeddings")
    check(c.a1111.get_memory()["ram"]["used"] > 0, "memory")


def test_webuiapi_changes_the_model(c):
    c.a1111.util_set_model("other")
    check(c.a1111.util_get_current_model().startswith("other"), c.a1111.util_get_current_model())
    r = c.a1111.txt2img(prompt="red apple", width=64, height=64)
    check(r.info["sd_model_name"] == "other", r.info)
    c.a1111.util_set_model("teacher")
    check(c.a1111.util_get_current_model().startswith("teacher"), c.a1111.util_get_current_model())


def test_webuiapi_refusals(c):
    error = fails(lambda: c.a1111.txt2img(prompt="a", sampler_name="Restart"), RuntimeError)
    check(error.args[0] == 404 and "Sampler not found" in error.args[1], error)
    error = fails(lambda: c.a1111.txt2img(prompt="a", enable_hr=True), RuntimeError)
    check(error.args[0] == 422 and "enable_hr" in error.args[1], error)


# ---- OpenAI ----

def picture_of(data):
    return Image.open(io.BytesIO(base64.b64decode(data.b64_json)))


def test_openai_generations(c):
    r = c.openai.images.generate(model="teacher", prompt="red apple", n=2, size="64x64", extra_body={"seed": 5,
                                                                                                 "steps": 3})
    check([picture_of(d).size for d in r.data] == [(64, 64)] * 2, r)
    r = c.openai.images.generate(model="teacher", prompt="red apple", size="64x64", extra_body={"seed": 5, "steps": 3})
    own = c.generate("-p", "red apple", "--seed", "5", "--steps", "3", "-W", "64", "-H", "64")
    check(picture_of(r.data[0]).tobytes() == own.tobytes(), "another picture than the command line's")


def test_openai_formats(c):
    for name, shown in (("jpeg", "JPEG"), ("webp", "WEBP"), ("png", "PNG")):
        r = c.openai.images.generate(model="teacher", prompt="red apple", output_format=name, extra_body={"steps": 1})
        check(picture_of(r.data[0]).format == shown, name)


def test_openai_stream(c):
    events = list(c.openai.images.generate(model="teacher", prompt="red apple", stream=True, partial_images=2,
                                           extra_body={"steps": 8}))
    kinds = [event.type for event in events]
    check(kinds == ["image_generation.partial_image"] * 2 + ["image_generation.completed"], kinds)
    check([e.partial_image_index for e in events[:2]] == [0, 1], events)
    check(all(picture_of(event).size[0] > 0 for event in events))


def test_openai_models(c):
    check(sorted(m.id for m in c.openai.models.list()) == ["other", "teacher"], "models")


def test_openai_edits_are_refused(c):
    file = io.BytesIO()
    Image.new("RGB", (64, 64)).save(file, "PNG")
    error = fails(lambda: c.openai.images.edit(model="teacher", image=("a.png", file.getvalue()), prompt="a"),
                  openai.APIStatusError)
    check(error.status_code == 501 and "not supported" in str(error), error)


def test_openai_refusals(c):
    error = fails(lambda: c.openai.images.generate(model="nobody", prompt="a"), openai.APIStatusError)
    check(error.status_code in (400, 404) and "nobody" in str(error), error)
    error = fails(lambda: c.openai.images.generate(model="teacher", prompt="a", size="63x64"), openai.BadRequestError)
    check("63" in str(error), error)
    fails(lambda: c.stranger.models.list(), openai.AuthenticationError)


# ---- what /openapi.json describes ----

# Left out: what a schema cannot say (sides are multiples, a picture is a picture), 501 and 504, which are meant, and
# results that are kept after a cancelled job.
CHECKS = "status_code_conformance,content_type_conformance,response_schema_conformance,response_headers_conformance"


def test_openapi_by_schemathesis(c):
    tool = os.path.join(os.path.dirname(sys.executable), "schemathesis")
    done = subprocess.run([tool, "run", c.url + "/openapi.json", "--checks", CHECKS, "--max-examples", "25", "--header",
                           f"Authorization: Bearer {KEY}", "--request-timeout", "60", "--seed", "1"], cwd=c.work,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    check(done.returncode == 0, done.stdout[-4000:])
    asked = urllib.request.Request(c.url + "/metrics", headers={"Authorization": f"Bearer {KEY}"})
    counts = urllib.request.urlopen(asked).read().decode()
    check("splam_http_requests_total" in counts and 'code="500"' not in counts, counts)


def main():
    tests = [test for name, test in sorted(globals().items()) if name.startswith("test_")]
    with tempfile.TemporaryDirectory() as work:
        keys = f"{work}/keys"
        with open(keys, "w") as file:
            file.write(KEY + "\n")
        with Server(sys.argv[1], work, "--api-key-file", keys) as server:
            clients = Clients(sys.argv[1], server, work)
            run_tests(tests, lambda test: test(clients))


if __name__ == "__main__":
    main()
