"""The report in a real browser, opened from disk: Debian's chromium and chromium-driver."""

import json
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np
import pytest
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.actions.pointer_input import PointerInput
from selenium.webdriver.common.by import By

from stages import outputs
from stages.assets import Asset
from stages.common import paths
from stages.common.cli import UserError
from stages.download.fetch import Fetcher
from stages.evaluate import plain
from stages.report import try_it
from tests.conftest import ROOT, report_of_the_current_folder
from tests.report.test_report import HOSTILE, make_small
from tools.docs.screenshot import PROGRAMS, chromium

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not all(PROGRAMS), reason="needs chromium and chromedriver (Debian: chromium-driver)"),
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
def driver() -> Iterator[webdriver.Chrome]:
    with chromium(**{"goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"}}) as made:
        yield made


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


def test_it_opens_without_errors_or_requests_and_every_image_is_there(browser):
    browser.requests(), browser.driver.get_log("browser")
    browser.open()
    assert browser.driver.get_log("browser") == []
    assert browser.requests() == {browser.url}
    images = browser.run("return [...document.images].map(p => [p.complete && p.naturalWidth > 0, p.alt])")
    assert len(images) > 40
    assert all(loaded and alt for loaded, alt in images)


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


def test_a_large_number_stays_on_one_line_in_its_card_with_many_versions(browser):
    browser.open()
    browser.run("const card = document.querySelector('.hero'); card.querySelector('.big').textContent = '100.00%'")
    wide = browser.run(
        """const card = document.querySelector(".hero");
        for (let n = 0; n < 9; n++) card.after(card.cloneNode(true));
        return [...document.querySelectorAll(".hero .big")]
          .filter(each => each.scrollWidth > each.clientWidth || each.clientHeight > 1.5 * parseFloat(getComputedStyle(each).fontSize))
          .map(each => each.textContent)"""
    )
    assert wide == []


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
    predictions = inputs / "metrics/resnet50_predictions.json"
    predictions.write_text(predictions.read_text().replace('"chelsea.png"', json.dumps(HOSTILE)))
    path = Path(tmp_path, "index.html")
    path.write_text(report_of_the_current_folder())
    browser = Browser(driver, path.as_uri())
    browser.requests(), driver.get_log("browser")
    browser.open(360)
    assert driver.get_log("browser") == []
    assert browser.requests() == {browser.url}
    assert browser.run("return document.documentElement.scrollWidth") == 360
    assert HOSTILE in driver.find_element(By.ID, "resnet50").text


LAYERS = keras.layers
ARGUMENTS = {  # of layers that need some
    "GaussianNoise": {"stddev": 0.5},
    "RandomRotation": {"factor": 0.5},
    "RandomShear": {"x_factor": 0.5, "y_factor": 0.5},
    "RandomTranslation": {"height_factor": 0.5, "width_factor": 0.5},
    "RandomZoom": {"height_factor": 0.5},
}


def chains() -> Iterator[list[keras.Layer]]:
    """Layers of networks: all layers and activations that the page computes, with the arguments that matter."""
    yield from ([LAYERS.Dense(5, activation=name)] for name in try_it.ACTIVATIONS)
    needed = {name: ARGUMENTS.get(name, {"rate": 0.5} if "Dropout" in name else {}) for name in try_it.IDENTITY}
    yield from ([getattr(LAYERS, name)(**arguments)] for name, arguments in needed.items())
    yield [
        LAYERS.Conv2D(3, 5, strides=(2, 3), activation="relu"),
        LAYERS.BatchNormalization(epsilon=0.01),
        LAYERS.Flatten(),
    ]
    yield [LAYERS.Conv2D(3, (4, 3), strides=3, padding="same", use_bias=False), LAYERS.BatchNormalization(scale=False)]
    yield [
        LAYERS.Conv2D(4, 28),
        LAYERS.Activation("tanh"),
        LAYERS.Conv2D(3, 1),
        LAYERS.BatchNormalization(center=False),
    ]
    yield [LAYERS.Conv2D(3, 2, padding="same"), LAYERS.MaxPooling2D(3, strides=2, padding="same"), LAYERS.Softmax()]
    yield [LAYERS.Conv2D(3, 2), LAYERS.AveragePooling2D((3, 2), strides=2, padding="same")]
    yield [LAYERS.Conv2D(3, 2), LAYERS.MaxPooling2D((2, 3)), LAYERS.AveragePooling2D(2)]
    yield [
        LAYERS.Conv2D(3, 2),
        LAYERS.ReLU(max_value=0.5, negative_slope=0.1, threshold=0.2),
        LAYERS.GlobalMaxPooling2D(),
    ]
    yield [LAYERS.Conv2D(3, 2), LAYERS.LeakyReLU(0.3), LAYERS.GlobalAveragePooling2D(), LAYERS.Dense(4, use_bias=False)]


def of_the_page(browser, script: str, *arguments):
    """What a function of the page's script gives; typed arrays become lists."""
    return browser.run(f"return [...{script}]", *arguments)


def choose(browser, option: str) -> dict[str, list[float]]:
    """The probabilities of each version for a test image of the list."""
    return browser.run(
        """const list = document.getElementById("try-image");
        list.value = arguments[0];
        list.dispatchEvent(new Event("change"));
        const shares = (bars) => [...bars].map(bar => Number(bar.style.getPropertyValue("--p")));
        const found = document.querySelectorAll("[data-network]");
        return Object.fromEntries([...found].map(each => [each.dataset.network, shares(each.children)]))""",
        option,
    )


def choose_all(browser) -> tuple[list[int], dict[str, np.ndarray]]:
    """The places in the test set of all images of the list, and the probabilities (images, digits) by version."""
    options = browser.run(
        "return [...document.querySelectorAll('#try-image option')].map(each => [each.value, each.text])"
    )
    rows = [int(text.split()[1].strip(",")) for value, text in options if value]
    found = [choose(browser, value) for value, _ in options if value]
    return rows, {name: np.array([each[name] for each in found]) for name in found[0]}


def seen(browser) -> np.ndarray:
    """The 28 x 28 bytes that the networks got last."""
    script = "document.getElementById('try-seen').getContext('2d').getImageData(0, 0, 28, 28).data"
    return np.array(of_the_page(browser, script)).reshape(28, 28, 4)[..., 0]


def test_the_page_gives_keras_probabilities_of_50_test_images(browser, untrained, test_arrays):
    browser.open()
    rows, found = choose_all(browser)
    images = np.load(test_arrays / "test_images.npy")[rows][..., None]
    assert len(set(rows)) == 50 and set(found) == {"mlp", "convnet"}
    for name, shares in found.items():
        expected = keras.saving.load_model(untrained / f"{name}.keras").predict(images, verbose=0)
        np.testing.assert_allclose(shares, expected, rtol=0, atol=1e-5)


def test_the_recorded_page_gives_the_recorded_predictions(driver):
    browser = Browser(driver, (ROOT / paths.REPORT / "index.html").as_uri())
    browser.open()
    rows, found = choose_all(browser)
    assert found
    for name, shares in found.items():
        recorded = outputs.read_predictions(ROOT / paths.predictions(name))
        assert shares.argmax(axis=1).tolist() == recorded.predicted[rows].tolist()
        np.testing.assert_allclose(shares.max(axis=1), recorded.probability[rows], rtol=0, atol=1e-5)


def test_every_layer_and_activation_is_computed_as_keras_does(browser, tmp_path):
    browser.open()
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (1, 28, 28, 1), np.uint8)
    used = set()
    for chain in chains():
        model = keras.Sequential([keras.Input((28, 28, 1)), *chain])
        model.set_weights(
            [random.random(weight.shape, np.float32) - (weight.ndim > 1) / 2 for weight in model.get_weights()]
        )
        model.save(tmp_path / "m.keras")
        layers = plain(tmp_path / "m.keras", model)["layers"]
        assert try_it.why_not(0, layers) == ""
        used |= {layer["type"] for layer in layers}
        network = {"name": "any", "layers": [try_it.needed(layer) for layer in layers]}
        script = "probabilities(decodeNetwork(arguments[0]), arguments[1])"
        found = of_the_page(browser, script, network, pixels.ravel().tolist())
        expected = model.predict(np.float32(pixels) / 255, verbose=0)
        np.testing.assert_allclose(found, expected.ravel(), rtol=1e-5, atol=1e-5, err_msg=str(chain))
    assert used == {*try_it.COMPUTED, *try_it.IDENTITY}


@pytest.mark.parametrize("kind", ["mouse", "touch"])
def test_a_drawing_is_scaled_centred_and_classified(browser, kind):
    """A long stroke beside the middle becomes 20 pixels high, and its centre of mass lies where MNIST's do."""
    browser.open()
    pad = browser.driver.find_element(By.ID, "try-pad")
    browser.run("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", pad)
    actions = ActionChains(browser.driver, 50)
    actions.w3c_actions.add_pointer_input(kind, kind)
    pen = actions.w3c_actions.pointer_action
    if kind == "touch":
        actions = ActionChains(browser.driver, 50, devices=[PointerInput("touch", "finger")])
        pen = actions.w3c_actions.pointer_action
    pen.move_to(pad, -80, -60).pointer_down().move_to(pad, -80, 40).move_to(pad, -70, 110).pointer_up()
    actions.perform()
    image = seen(browser).astype(float)
    rows, columns = np.nonzero(image)
    assert np.ptp(rows) == 19 and np.ptp(columns) < 10
    middle = [np.average(np.arange(28) + 0.5, weights=image.sum(axis=axis)) for axis in (0, 1)]
    assert min(middle) > 13.9 and max(middle) < 15.1
    said = browser.driver.find_element(By.ID, "try-said")
    assert said.aria_role == "status" and "mlp: " in said.text and "convnet: " in said.text
    browser.driver.find_element(By.ID, "try-clear").click()
    assert said.text == "" and not seen(browser).any()


def test_mnist_s_own_images_keep_their_size_and_place(browser, test_arrays):
    """Ten times as large and moved, they come back: so a drawing is scaled and centred as they were."""
    browser.open()
    images = np.rint(np.load(test_arrays / "test_images.npy")[:30] * 255)
    for image in images:
        moved = np.pad(np.kron(image, np.ones((10, 10))), ((17, 3), (2, 18)))
        script = "fitted({width: 300, height: 300, values: arguments[0]})"
        assert of_the_page(browser, script, moved.ravel().tolist()) == image.ravel().tolist()


def test_a_test_image_is_chosen_by_keyboard(browser):
    browser.open()
    browser.driver.find_element(By.ID, "try-image").send_keys("\ue015")  # arrow down
    assert browser.driver.find_element(By.ID, "try-said").text.startswith("mlp: ")
    assert seen(browser).any()
