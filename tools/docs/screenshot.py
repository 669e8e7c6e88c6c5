"""Take docs/report.png, the README's image of the report, with Debian's chromium: two views, one in each theme."""

import base64
import io
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

from tools.checkout import ROOT

PROGRAMS = CHROMIUM, DRIVER = [shutil.which(name) for name in ("chromium", "chromedriver")]
SECTIONS = ("results", "training")  # the first in the light theme, the second in the dark one
WIDTH, HEIGHT = 1180, 1000  # of each view; the image has them side by side at half the size
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


@contextmanager
def chromium(**capabilities: object) -> Iterator[webdriver.Chrome]:
    """Chromium with a profile of its own, and with some of chromedriver's capabilities set."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = webdriver.ChromeOptions()
        options.binary_location = CHROMIUM
        for flag in [*FLAGS, f"--user-data-dir={profile}"]:
            options.add_argument(flag)
        for name, value in capabilities.items():
            options.set_capability(name, value)
        with webdriver.Chrome(options=options, service=Service(DRIVER)) as driver:
            yield driver


def views() -> list[Image.Image]:
    """The page scrolled to each section, in its theme."""
    taken = []
    with chromium() as driver:
        size = {"width": WIDTH, "height": HEIGHT, "deviceScaleFactor": 1, "mobile": False}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        driver.get((ROOT / "metrics/report/index.html").as_uri())
        for section in SECTIONS:
            if taken:
                driver.find_element("id", "theme").click()
            script = "document.getElementById(arguments[0]).scrollIntoView({behavior: 'instant'})"
            driver.execute_script(script, section)
            shot = driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})["data"]
            taken.append(Image.open(io.BytesIO(base64.b64decode(shot))).convert("RGB"))
    return taken


def main() -> None:
    """Take the views and put them side by side."""
    shown = Image.new("RGB", (WIDTH, HEIGHT // 2))
    for place, view in enumerate(views()):
        shown.paste(view.resize((WIDTH // 2, HEIGHT // 2), Image.Resampling.LANCZOS), (place * WIDTH // 2, 0))
    shown.quantize(256, kmeans=1, dither=Image.Dither.NONE).save(ROOT / "docs/report.png", optimize=True)


if __name__ == "__main__":
    main()
