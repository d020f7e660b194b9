"""The page, rendered and in a real browser."""

import json
import re
import shutil

import pytest

from efficientnetv2_tf.deploy.serving import page
from efficientnetv2_tf.deploy.serving.store import ModelStore

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
in_browser = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="needs Chromium and its driver: apt-get install chromium chromium-driver"
)


def offered(store):
    (models,) = re.findall(r'<script type="application/json" id="models">(.*)</script>', page.render(store))
    return json.loads(models)


def test_models_that_take_pictures_are_offered(store):
    assert offered(store) == [
        {"name": "pictures", "version": 1, "signature": "explain"},
        {"name": "tiny", "version": 1, "signature": "serving_default"},
    ]


def test_a_model_s_name_is_no_html(models_dir, tmp_path):
    shutil.copytree(models_dir / "tiny", tmp_path / "<script>")
    store = ModelStore(tmp_path)
    store.refresh()
    assert [model["name"] for model in offered(store)] == ["<script>"]
    assert '"<script>"' not in page.render(store)


def test_nothing_comes_from_elsewhere(store):
    addresses = set(re.findall(r"https?://[^\s'\"]+", page.render(store)))
    assert addresses == {"http://www.w3.org/2000/svg"}  # a name, not an address


@pytest.fixture(scope="module")
def chromium():
    webdriver = pytest.importorskip("selenium.webdriver", reason="pip install selenium")
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1200,900"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(options, Service(DRIVER))
    yield browser
    browser.quit()


class Page:
    """The page as its user sees it."""

    def __init__(self, browser, address):
        self._browser = browser
        browser.get(address)

    def element(self, name):
        return self._browser.find_element("id", name)

    def script(self, code, *arguments):
        return self._browser.execute_script(code, *arguments)

    def wait_for(self, name):
        from selenium.webdriver.support.ui import WebDriverWait

        WebDriverWait(self._browser, 60).until(lambda _: self.element(name).is_displayed())

    def upload(self, path, then="facts"):
        self.element("file").send_keys(str(path))
        self.wait_for(then)

    def press_tab(self):
        """The name of what has the focus then."""
        from selenium.webdriver import ActionChains, Keys

        ActionChains(self._browser).send_keys(Keys.TAB).perform()
        return self._browser.switch_to.active_element.accessible_name

    def top(self):
        """(name, score) from the top."""
        items = self._browser.find_elements("css selector", "#top li")
        return [tuple(item.text.splitlines()) for item in items]

    def errors(self):
        return [entry for entry in self._browser.get_log("browser") if entry["level"] == "SEVERE"]


@pytest.fixture
def opened(chromium, address):
    chromium.get_log("browser")  # what came before
    return Page(chromium, address)


@pytest.fixture
def picture(tmp_path, encoded_picture):
    """A file with a picture of one colour."""

    def write(colour, kind="PNG"):
        path = tmp_path / f"picture.{kind.lower()}"
        path.write_bytes(encoded_picture(kind, colour, size=(400, 200)))
        return path

    return write


@in_browser
class TestBrowser:
    def test_a_picture_is_named_and_its_heat_map_drawn(self, opened, picture):
        opened.upload(picture((0, 240, 0)))
        assert opened.top()[0][0] == "grün"
        scores = [float(score.removesuffix(" %")) for _, score in opened.top()]
        assert len(scores) == 5
        assert scores == sorted(scores, reverse=True)
        assert opened.element("facts").text.startswith("pictures, version 1: ")
        opened.wait_for("heat")
        # Brightness 240 / 3 / 255 = 0.31 lies a quarter of the way from the second to the third colour.
        pixel = "return [...document.getElementById('heat').getContext('2d').getImageData(1, 1, 1, 1).data]"
        assert opened.script(pixel) == pytest.approx([146, 20, 156, 104], abs=2)
        image, heat = opened.element("picture").rect, opened.element("heat").rect
        assert image["width"] / image["height"] == pytest.approx(2, abs=0.02)
        assert heat["width"] == pytest.approx(image["width"] / 2, abs=1)
        assert heat["x"] - image["x"] == pytest.approx(image["width"] / 4, abs=1)
        assert heat["height"] == pytest.approx(image["height"], abs=1)
        assert opened.element("heat").accessible_name == "Heat map of what spoke for grün"
        assert not opened.errors()

    def test_the_heat_map_can_be_faded(self, opened, picture):
        opened.upload(picture((255, 0, 0)), then="heat")
        slider = opened.element("strength")
        assert slider.accessible_name == "Heat map"
        assert opened.element("heat").value_of_css_property("opacity") == "0.8"
        slider.send_keys("\ue011")  # Home
        assert opened.element("heat").value_of_css_property("opacity") == "0"

    def test_a_picture_can_be_dropped(self, opened):
        opened.script("""
            const canvas = new OffscreenCanvas(32, 32), context = canvas.getContext("2d");
            context.fillStyle = "blue";
            context.fillRect(0, 0, 32, 32);
            canvas.convertToBlob().then((blob) => {
                const files = new DataTransfer();
                files.items.add(new File([blob], "blue.png"));
                document.body.dispatchEvent(new DragEvent("drop", {dataTransfer: files, bubbles: true}));
            });
        """)
        opened.wait_for("heat")
        assert opened.top()[0][0] == "blau"

    def test_a_file_that_is_no_picture_is_explained(self, opened, picture, tmp_path):
        (tmp_path / "letter.txt").write_text("Dear reader")
        opened.upload(tmp_path / "letter.txt", then="problem")
        assert opened.element("problem").aria_role == "alert"
        assert "Unknown image file format" in opened.element("problem").text
        assert not opened.element("figure").is_displayed()
        opened.upload(picture((255, 0, 0), "JPEG"))
        assert opened.top()[0][0] == "rot"
        assert not opened.element("problem").is_displayed()

    def test_another_model_can_be_chosen(self, opened, picture):
        from selenium.webdriver.support.ui import Select

        choice = Select(opened.element("model"))
        assert [option.text for option in choice.options] == ["pictures (version 1)", "tiny (version 1)"]
        choice.select_by_index(1)
        opened.upload(picture((0, 0, 255)))
        # This one has no names, four classes and no heat map.
        assert [name for name, _ in opened.top()] == ["class 3", "class 2", "class 1", "class 0"]
        assert not opened.element("heat").is_displayed()

    def test_the_keyboard_reaches_everything(self, opened, picture):
        opened.upload(picture((255, 0, 0)), then="heat")
        names = [opened.press_tab() for _ in range(4)]
        assert names[0] == "Model"
        assert names[1].startswith("Drop a picture here")
        assert names[2:] == ["Heat map", "The same from a shell"]

    def test_a_server_that_is_gone_is_explained(self, chromium, running, store, picture):
        with running(store) as address:
            page_of_it = Page(chromium, address)
        page_of_it.upload(picture((255, 0, 0)), then="problem")
        assert page_of_it.element("problem").text == "The server does not answer. Is it still running?"

    def test_without_a_model_for_pictures_the_page_says_so(self, chromium, running, models_dir, tmp_path):
        shutil.copytree(models_dir / "echo", tmp_path / "echo")
        store = ModelStore(tmp_path)
        store.refresh()
        with running(store) as address:
            text = Page(chromium, address).element("problem").text
        assert text.startswith("None of the models served here takes pictures")
