"""The pages in a real browser: where Chromium and Playwright are installed."""

import csv
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from adaptune.data.listing import Example
from adaptune.data.questions import Questions
from adaptune.networks.network import Network

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
PATIENCE = 180_000
"""Milliseconds for what takes one, where many share a machine."""

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not CHROMIUM, reason="needs Chromium")]


def start(command: str, run: Path) -> tuple[subprocess.Popen[str], str]:
    words = [sys.executable, "-m", "adaptune", command, str(run)]
    server = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert server.stdout is not None
    for line in server.stdout:
        found = re.search(r"http://\S+", line)
        if found:
            return server, found[0]
    raise AssertionError("the server ended")


def stop(server: subprocess.Popen[str]) -> None:
    server.kill()
    server.wait()
    assert server.stdout is not None
    server.stdout.close()


def shots_in(folder: Path) -> Path:
    return Path(os.environ.get("SCREENSHOTS", folder))


def count(run: Path) -> int:
    with (run / "questions.csv").open(newline="") as file:
        return sum(bool(row["label"]) for row in csv.DictReader(file))


def test_thirty_answers_by_keyboard_survive_two_kills(sketches, tmp_path):
    playwright = pytest.importorskip("playwright.sync_api")
    files = sorted(sketches.glob("*/*.png"))[::2]
    classes = ("dots", "rings", "stripes")
    asked = tuple(Example(file.absolute(), "") for file in files)
    Questions(asked, classes).save(tmp_path / "questions.json")
    (tmp_path / "questions.csv").write_text("path,label\n" + "".join(f"{f},\n" for f in files))
    shots = shots_in(tmp_path)
    server, address = start("label", tmp_path)
    try:
        with playwright.sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            page = browser.new_page(color_scheme="light")
            page.set_default_timeout(PATIENCE)
            page.goto(address)
            for number, file in enumerate(files):
                page.wait_for_selector(f"#image[alt='image {number + 1} of 30']:not([hidden])")
                if number in (10, 20):
                    stop(server)
                    page.keyboard.press("1")
                    page.wait_for_selector("#said:has-text('does not answer')")
                    page.screenshot(path=shots / f"killed-{number}.png")
                    assert count(tmp_path) == number
                    server, address = start("label", tmp_path)
                    page.emulate_media(color_scheme="dark")
                    page.goto(address)
                    page.wait_for_selector(f"#image[alt='image {number + 1} of 30']:not([hidden])")
                    page.screenshot(path=shots / f"dark-{number}.png")
                if number == 5:
                    page.keyboard.press("2")
                    page.wait_for_selector("#status:has-text('6 of 30')")
                    page.keyboard.press("u")
                    page.wait_for_selector("#status:has-text('5 of 30')")
                    page.wait_for_selector("#image[alt='image 6 of 30']:not([hidden])")
                    page.screenshot(path=shots / "light.png")
                page.keyboard.press(str(classes.index(file.parent.name) + 1))
                page.wait_for_selector(f"#status:has-text('{number + 1} of 30')")
            page.wait_for_selector("#done:not([hidden])")
            page.set_viewport_size({"width": 390, "height": 800})
            page.screenshot(path=shots / "done-small.png")
            root = address.rstrip("/").rpartition("/")[0]
            assert page.request.get(f"{root}/state").status == 403
            foreign = {"origin": "http://evil.example"}
            assert page.request.get(f"{address}state", headers=foreign).status == 403
            browser.close()
    finally:
        stop(server)
    with (tmp_path / "questions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["label"] for row in rows] == [file.parent.name for file in files]


def test_an_image_is_tried_and_a_damaged_one_leaves_the_page_as_it_is(photos, tmp_path):
    playwright = pytest.importorskip("playwright.sync_api")
    torch.manual_seed(0)
    Network.from_timm("test_efficientnet", ["dots", "rings", "stripes"], size=32).save(
        tmp_path / "best"
    )
    (tmp_path / "config.yaml").write_text(f"data: {photos}\nval_share: 0.5\n")
    (tmp_path / "damaged.png").write_bytes(b"\x89PNG")
    Image.new("RGB", (60, 40), "lime").save(tmp_path / "lime.png")
    shots = shots_in(tmp_path)
    server, address = start("try", tmp_path)
    try:
        with playwright.sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            page = browser.new_page(color_scheme="light")
            page.set_default_timeout(PATIENCE)
            wrong = []
            page.on("pageerror", lambda error: wrong.append(str(error)))
            page.goto(address)
            page.set_input_files("#file", sorted(photos.glob("*/*.png"))[3])
            page.wait_for_selector("#result:not([hidden])")
            page.wait_for_selector("#domain:has-text('up to')")
            assert "29 validation images" in page.text_content("#rate")
            assert "about 3.3% of new images" in page.text_content("#rate")
            assert len(page.query_selector_all("#near img")) == 6
            page.screenshot(path=shots / "try-light.png", full_page=True)
            page.set_input_files("#file", tmp_path / "damaged.png")
            page.wait_for_selector("#alert:has-text('This cannot be read')")
            assert not page.is_visible("#result")
            page.screenshot(path=shots / "try-refused.png")
            page.set_input_files("#file", tmp_path / "lime.png")
            page.wait_for_selector("#domain.odd:has-text('Out of the domain')")
            assert not page.is_visible("#alert")
            page.emulate_media(color_scheme="dark")
            page.set_viewport_size({"width": 390, "height": 800})
            page.screenshot(path=shots / "try-dark-small.png", full_page=True)
            assert page.evaluate("document.documentElement.scrollWidth") <= 390
            stop(server)
            page.set_input_files("#file", tmp_path / "damaged.png")
            page.wait_for_selector("#alert:has-text('does not answer')")
            assert wrong == []
            browser.close()
    finally:
        stop(server)
