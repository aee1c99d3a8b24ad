"""The report in a browser: headless Chromium clicks through it and watches for errors and network requests."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread

from pyimplicit.study import matrix, paper_figures
from pyimplicit.study.matrix import write_report
from tests.study.helpers import FEW_FIGURES, SHAPES, study_folder

pytest.importorskip("plotly", reason="the HTML report needs plotly: pyimplicit[report]")
pytest.importorskip("fast_simplification", reason="the HTML report simplifies meshes: pyimplicit[report]")
pytest.importorskip("selenium", reason="the browser is driven by selenium: pyimplicit[dev]")
from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select, WebDriverWait

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None or DRIVER is None, reason="needs Chromium and its driver (Debian: chromium, chromium-driver)"
)
ARGUMENTS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--window-size=1366,900"),
)
# A busy machine draws 3D views by software: be patient.
PATIENCE = 90
Open = Callable[..., "Browser"]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    study_folder(folder)
    (folder / "data").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(matrix, "study_shapes", lambda *_: ([], SHAPES))
        patch.setattr(paper_figures, "_FIGURES", {name: paper_figures._FIGURES[name] for name in FEW_FIGURES})
        return write_report(folder)


class Browser:
    """Chromium, which opens one page."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        options = webdriver.ChromeOptions()
        options.binary_location = str(CHROMIUM)
        for argument in (*ARGUMENTS, f"--user-data-dir={folder}", *arguments):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        # A session of its own, so that a browser that hangs can be ended with its driver.
        self.service = webdriver.ChromeService(executable_path=DRIVER, popen_kw={"start_new_session": True})
        self.driver = webdriver.Chrome(options=options, service=self.service)
        self.driver.set_page_load_timeout(PATIENCE)

    def open(self, page: Path) -> None:
        self.driver.get("about:blank")
        self.driver.get_log("performance")  # what the browser itself did until now
        self.driver.get(page.as_uri())

    def close(self) -> None:
        group = self.service.process.pid
        with suppress(WebDriverException, OSError):
            self.driver.quit()
        with suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)

    def click(self, selector: str) -> None:
        self.driver.find_element(By.CSS_SELECTOR, selector).click()

    def button(self, view: str, text: str, panel: int = 0) -> None:
        buttons = self.driver.find_elements(By.XPATH, f"//div[@id='view-{view}']//button[text()='{text}']")
        buttons[panel].click()

    def choose(self, view: str, field: str, text: str) -> None:
        Select(
            self.driver.find_element(By.CSS_SELECTOR, f"#view-{view} select[name='{field}']")
        ).select_by_visible_text(text)

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(f"return {script}", *arguments)

    def wait(self, script: str) -> None:
        WebDriverWait(self.driver, PATIENCE).until(lambda _: self.run(script), message=script)

    def scene(self, view: str, panel: int, what: str) -> Any:
        return self.run(f"document.querySelectorAll('#view-{view} .scene')[{panel}].data{what}")

    def errors(self) -> list[str]:
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]

    def requests(self) -> set[str]:
        """Addresses that the page has asked for, but for the data within it."""
        found = set()
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                found.add(message["params"]["request"]["url"].partition("#")[0])
        return {address for address in found if not address.startswith(("data:", "blob:"))}


@pytest.fixture
def opened(page: Path, tmp_path: Path) -> Iterator[Open]:
    browsers = []

    def start(*arguments: str) -> Browser:
        browsers.append(Browser(tmp_path / f"profile{len(browsers)}", *arguments))
        browsers[-1].open(page)
        return browsers[-1]

    yield start
    for browser in browsers:
        browser.close()


def test_clicking_through_the_page(opened: Open, page: Path, tmp_path: Path) -> None:
    browser = opened("--enable-unsafe-swiftshader")
    browser.wait("document.querySelector('#chart-whole .bars') !== null")
    tabs = browser.run("[...document.querySelectorAll('nav a')].map((link) => link.hash.slice(1))")
    assert tabs[0] == "summary"
    for tab in tabs:
        browser.click(f"nav a[href='#{tab}']")
        shown = browser.run(
            "[...document.querySelectorAll('section')].filter((one) => one.offsetHeight).map((one) => one.id)"
        )
        assert shown == [tab]

    browser.click("nav a[href='#claims']")
    browser.click("#claims details summary")
    assert browser.run("document.querySelector('#claims .paper').offsetHeight > 0")

    browser.click("nav a[href='#queries']")
    browser.wait("document.querySelectorAll('#view-queries canvas').length >= 2")
    before = browser.scene("queries", 0, "[1].x[0]")
    assert browser.scene("queries", 0, "[1].x.length") == 2_000
    browser.button("queries", "S_NS")
    assert browser.run("document.querySelector('#view-queries h4').textContent") == "S_NS  near_surface"
    assert browser.scene("queries", 0, "[1].x[0]") != before
    browser.choose("queries", "Shape", "tall <b>")
    assert browser.run("Math.max(...arguments[0])", browser.scene("queries", 0, "[1].y")) > 0.25
    assert browser.scene("queries", 0, ".length") == 3
    browser.button("queries", "points alone")
    assert browser.scene("queries", 0, ".length") == 2
    # Dragging one side turns the other one too.
    scenes = "document.querySelectorAll('#view-queries .scene')"
    turned = {"scene.camera": {"eye": {"x": 2, "y": 0, "z": 0}, "up": {"x": 0, "y": 1, "z": 0}}}
    browser.run(f"{scenes}[0].emit('plotly_relayout', arguments[0])", turned)
    browser.wait(f"{scenes}[1].layout.scene.camera.eye.x === 2")

    browser.click("nav a[href='#reconstructions']")
    browser.wait("document.querySelectorAll('#view-reconstructions canvas').length >= 4")
    browser.choose("reconstructions", "Shape", "tall <b>")
    assert browser.scene("reconstructions", 2, "[1].i.length") == 24
    browser.choose("reconstructions", "Network", "ConvONet mask 0.1 UDF")
    assert browser.scene("reconstructions", 2, "[1].type") == "scatter3d"
    browser.choose("reconstructions", "Network", "DeepSDF SDF")
    assert "no surface" in browser.run("document.querySelectorAll('#view-reconstructions p')[2].textContent")
    assert browser.scene("reconstructions", 2, ".length") == 1  # the cube alone

    browser.click("nav a[href='#failures']")
    browser.wait("document.querySelectorAll('#view-failures canvas').length >= 3")
    assert "ONet OCC S_NS" in browser.run("document.querySelectorAll('#view-failures h4')[2].textContent")
    screenshot = tmp_path / "failures.png"
    assert browser.driver.save_screenshot(str(screenshot))
    picture = (imread(screenshot)[..., :3] * 255).astype(int)
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 100

    assert browser.errors() == []
    assert browser.requests() == {page.as_uri()}


def test_a_browser_without_webgl_is_told_so(opened: Open, page: Path) -> None:
    browser = opened("--disable-3d-apis")
    for tab in ("queries", "reconstructions", "failures"):
        browser.click(f"nav a[href='#{tab}']")
        assert "WebGL is switched off" in browser.run(f"document.querySelector('#view-{tab} .notice').textContent")
    assert browser.errors() == []
    assert browser.requests() == {page.as_uri()}


def test_an_address_opens_its_section(opened: Open) -> None:
    browser = opened("--disable-3d-apis")
    browser.run("(location.hash = '#tables')")
    browser.wait("document.querySelector('section.active').id === 'tables'")
