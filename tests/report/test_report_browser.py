"""The report in a real browser, opened from disk: Debian's chromium and chromium-driver."""

import json
import shutil
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By

from stages.assets import Asset
from stages.common.cli import UserError
from stages.download.fetch import Fetcher
from tests.conftest import ROOT, report_of_the_current_folder
from tests.report.test_report import HOSTILE, make_small

PROGRAMS = [shutil.which(name) for name in ("chromium", "chromedriver")]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not all(PROGRAMS), reason="needs chromium and chromedriver (Debian: chromium-driver)"),
]

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",  # a phone's take no room
]
THEMES = ("light", "dark")
# The accessibility checker, with the bytes that its maker published; fetched as the outside files are.
AXE = Asset(
    name="axe.min.js",
    group="mnist",  # any: it decides where the download stage puts a file
    title="axe-core",
    licence="MPL-2.0",
    attribution="Deque Systems",
    size=653780,
    sha256="29348999450cdf2849a8e70b7912fc2da85a849da39c0d0d5394f51d4a9ed95c",
    sources=[{"npm": "axe-core@4.14.1", "member": "package/axe.min.js"}],
)


class Browser:
    """Chromium with the report open."""

    def __init__(self, driver: webdriver.Chrome, url: str):
        self.driver, self.url = driver, url

    def open(self, width: int = 1280, theme: str = "light") -> None:
        """Open the page afresh in a window of this width, for somebody who prefers this theme."""
        size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        wish = {"features": [{"name": "prefers-color-scheme", "value": theme}]}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", wish)
        self.driver.get(self.url)
        self.run("localStorage.clear()")
        self.driver.get(self.url)

    def run(self, script: str, *arguments):
        return self.driver.execute_script(script, *arguments)

    def theme(self) -> str:
        """The theme that is seen, by the colour behind the page."""
        red = self.run("return getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0]")
        return "light" if int(red) > 127 else "dark"

    def requests(self) -> set[str]:
        """The addresses outside itself that the page has asked for since the last call; its own is one."""
        events = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        sent = [event["params"] for event in events if event["method"] == "Network.requestWillBeSent"]
        asked = {each["request"]["url"] for each in sent if each["documentURL"] == self.url}
        return {url for url in asked if not url.startswith("data:")}


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = PROGRAMS[0]
    for flag in [*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    made = webdriver.Chrome(options=options, service=Service(PROGRAMS[1]))
    yield made
    made.quit()


@pytest.fixture
def browser(driver, report_page, tmp_path) -> Browser:
    path = tmp_path / "index.html"
    path.write_text(report_page)
    return Browser(driver, path.as_uri())


@pytest.fixture(scope="module")
def axe() -> str:
    try:
        return Fetcher(ROOT / ".dvc/tmp/assets", {}, []).fetch(AXE).read_text()
    except UserError as error:
        pytest.skip(f"axe-core cannot be fetched: {error}")


def test_it_opens_without_errors_or_requests_and_every_picture_is_there(browser):
    browser.requests(), browser.driver.get_log("browser")
    browser.open()
    assert browser.driver.get_log("browser") == []
    assert browser.requests() == {browser.url}
    pictures = browser.run("return [...document.images].map(p => [p.complete && p.naturalWidth > 0, p.alt])")
    assert len(pictures) > 40
    assert all(loaded and alt for loaded, alt in pictures)


def test_a_script_from_elsewhere_would_not_run(browser):
    browser.open()
    browser.run("const s = document.createElement('script'); s.text = 'window.hacked = 1'; document.body.append(s)")
    assert browser.run("return window.hacked") is None
    assert "Content Security Policy" in str(browser.driver.get_log("browser"))


@pytest.mark.parametrize("wish", THEMES)
def test_the_switch_changes_the_theme_and_the_choice_stays(browser, wish):
    other = THEMES[1 - THEMES.index(wish)]
    browser.open(theme=wish)
    button = browser.driver.find_element(By.ID, "theme")
    assert (browser.theme(), button.text) == (wish, f"{other.title()} theme")
    button.click()
    assert (browser.theme(), button.text) == (other, f"{wish.title()} theme")
    browser.driver.get(browser.url)
    assert browser.theme() == other
    browser.driver.find_element(By.ID, "theme").click()
    assert browser.theme() == wish


def test_folded_parts_open_by_mouse_and_by_keyboard(browser):
    browser.open()
    parts = browser.driver.find_elements(By.TAG_NAME, "details")
    assert len(parts) >= 5
    for part in parts:
        table = part.find_element(By.TAG_NAME, "table")
        assert not table.is_displayed()
        part.find_element(By.TAG_NAME, "summary").send_keys("\ue007")  # Enter
        assert table.is_displayed()
        browser.run("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", part)
        browser.run("arguments[0].querySelector('summary').click()", part)
        assert not table.is_displayed()


def test_on_paper_everything_is_unfolded(browser):
    browser.open()
    browser.run("dispatchEvent(new Event('beforeprint'))")
    assert browser.run("return document.querySelectorAll('details:not([open])').length") == 0
    browser.run("dispatchEvent(new Event('afterprint'))")
    assert browser.run("return document.querySelectorAll('details[open]').length") == 0


@pytest.mark.parametrize("width", [360, 768, 1280])
def test_only_wide_parts_scroll_sideways_never_the_page(browser, width):
    browser.open(width)
    browser.run("document.querySelectorAll('details').forEach(part => part.open = true)")
    wide = browser.run(
        """const wide = [];
        for (const each of document.querySelectorAll("body *")) {
          const box = each.getBoundingClientRect();
          if (!each.closest(".scroll, nav, .skip, pre, .stack thead") && box.width && box.right > innerWidth + 1)
            wide.push(each.outerHTML.slice(0, 200));
        }
        return [document.documentElement.scrollWidth, wide]"""
    )
    assert wide == [width, []]


def test_no_text_is_squeezed_on_a_phone(browser):
    browser.open(360)
    squeezed = browser.run(
        """return [...document.querySelectorAll("caption, figcaption, p, h2, h3, th, td")]
          .filter(each => each.checkVisibility() && each.clientHeight > 4 * each.clientWidth)
          .map(each => each.textContent)"""
    )
    assert squeezed == []


def test_every_mark_lies_in_its_chart(browser):
    """What a style sheet does to a mark, a test of the numbers alone cannot see."""
    browser.open()
    outside = browser.run(
        """const outside = [];
        for (const chart of document.querySelectorAll("svg.chart:not(.flow, .values)")) {
          const axis = chart.querySelector(".base").getBoundingClientRect(), top = chart.getBoundingClientRect().top;
          for (const mark of chart.querySelectorAll(".mark, .ring, .cross")) {
            const box = mark.getBoundingClientRect(), x = (box.left + box.right) / 2, y = (box.top + box.bottom) / 2;
            if (x < axis.left || x > axis.right || y < top || y > axis.bottom + 1) outside.push([x, y, axis.left, axis.right]);
          }
        }
        return outside"""
    )
    assert outside == []
    assert browser.run("return document.querySelectorAll('svg.chart .mark').length") > 50


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("width", [360, 1280])
def test_contrast_labels_and_structure_pass_axe(browser, axe, width, theme):
    browser.open(width, theme)
    browser.run("document.querySelectorAll('details').forEach(part => part.open = true)")
    browser.driver.execute_cdp_cmd("Runtime.evaluate", {"expression": axe})  # not a script element, which is refused
    options = {"resultTypes": ["violations"], "runOnly": ["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa", "best-practice"]}
    found = browser.driver.execute_async_script(
        "const done = arguments[1]; axe.run(document, arguments[0]).then(done, e => done({error: String(e)}))", options
    )
    assert "error" not in found, found
    problems = [
        f"{rule['id']}: {node['html'][:150]} {node['failureSummary'][:200]}"
        for rule in found["violations"]
        for node in rule["nodes"][:3]
    ]
    assert problems == []
    assert found["testEngine"]["version"] == "4.14.1"


def test_other_projects_pages_open_without_errors_too(driver, report_inputs, tmp_path):
    """One new version, and an image whose name is an attack."""
    inputs = report_inputs
    make_small(inputs)
    (inputs / "data/sample_images/chelsea.png").rename(inputs / "data/sample_images" / HOSTILE)
    guesses = inputs / "metrics/resnet50_predictions.json"
    guesses.write_text(guesses.read_text().replace('"chelsea.png"', json.dumps(HOSTILE)))
    path = Path(tmp_path, "index.html")
    path.write_text(report_of_the_current_folder())
    browser = Browser(driver, path.as_uri())
    browser.requests(), driver.get_log("browser")
    browser.open(360)
    assert driver.get_log("browser") == []
    assert browser.requests() == {browser.url}
    assert browser.run("return document.documentElement.scrollWidth") == 360
    assert HOSTILE in driver.find_element(By.ID, "resnet50").text
