"""A real browser, and somebody who reads pages with it."""

import os
import shutil
import time

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")

# Every text whose contrast with what lies behind it is below 4.5.
FAINT = """
const channels = (colour) => colour.match(/[\\d.]+/g).map(Number);
const luminance = (colour) => {
  const [r, g, b] = channels(colour).map((v) => v / 255)
    .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const behind = (element) => {
  for (let e = element; e; e = e.parentElement) {
    const colour = getComputedStyle(e).backgroundColor;
    if ((channels(colour)[3] ?? 1) > 0) return colour;
  }
  return "rgb(255, 255, 255)";
};
return [...document.querySelectorAll("body *")].filter((e) =>
  e.checkVisibility() && !e.closest("option, .pictures, :disabled, script")
  && [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim()))
  .map((e) => {
    const style = getComputedStyle(e);
    const text = luminance(e instanceof SVGElement ? style.fill : style.color);
    const [dark, light] = [text, luminance(behind(e))].sort((a, b) => a - b);
    return [(light + 0.05) / (dark + 0.05), e.className, e.textContent.trim().slice(0, 40)];
  });
"""


@pytest.fixture(scope="module")
def chromium():
    try:
        import selenium.webdriver
    except ImportError:
        selenium = None
    if not (selenium and CHROMIUM and DRIVER):
        reason = "needs Chromium, chromedriver and selenium (Debian: chromium, chromium-driver)"
        if os.environ.get("BFJAX_REQUIRE_BROWSER"):
            pytest.fail(f"BFJAX_REQUIRE_BROWSER is set, but the test {reason}")
        # Right, for it hides nothing: .ci/run installs both and demands them (the lines above).
        # Without a browser there is nothing to look at the page with.
        pytest.skip(reason)
    options = selenium.webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    options.add_argument("--headless=new")
    options.add_argument("--disable-gpu")
    if os.geteuid() == 0:  # Chromium's sandbox does not work for root; the page is our own
        options.add_argument("--no-sandbox")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = selenium.webdriver.ChromeService(DRIVER)
    driver = selenium.webdriver.Chrome(options=options, service=service)
    yield Reader(driver)
    driver.quit()


class Reader:
    """Somebody who reads a page: opens it, types, looks."""

    def __init__(self, driver):
        self.driver, self.run = driver, driver.execute_script

    def open(self, path, *, width=1280, height=900, **media):
        self.size(width, height)
        self.media(**{"prefers_reduced_motion": "reduce"} | media)  # nobody waits for scrolling
        self.driver.get(path.as_uri())
        return self

    def size(self, width, height=900):
        values = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", values)

    def media(self, **features):
        listed = [{"name": n.replace("_", "-"), "value": v} for n, v in features.items()]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": listed})

    def find(self, selector):
        return self.driver.find_element("css selector", selector)

    def all(self, selector):
        return self.driver.find_elements("css selector", selector)

    def texts(self, selector):
        return [element.text for element in self.all(selector)]

    def press(self, *keys, shift=False):
        from selenium.webdriver import ActionChains, Keys

        chain = ActionChains(self.driver)
        for key in keys:
            named = getattr(Keys, key, key)
            if shift:
                chain = chain.key_down(Keys.SHIFT).send_keys(named).key_up(Keys.SHIFT)
            else:
                chain = chain.send_keys(named)
        chain.perform()

    def choose(self, selector, value):
        from selenium.webdriver.support.ui import Select

        Select(self.find(selector)).select_by_value(value)

    def drag(self, selector, start, end):
        """Presses the mouse at one share of an element's width and lets it go at another."""
        from selenium.webdriver import ActionChains

        element = self.find(selector)
        width = element.rect["width"]
        chain = ActionChains(self.driver, duration=20)
        chain.move_to_element_with_offset(element, round((start - 0.5) * width), 0).click_and_hold()
        chain.move_by_offset(round((end - start) * width), 0).release().perform()

    @property
    def focused(self):
        return self.driver.switch_to.active_element

    def comes_back_to(self, text):
        """Whether the focus is soon on something with a text: dialogs close in their own time."""
        deadline = time.monotonic() + 5
        while text not in self.focused.text and time.monotonic() < deadline:
            time.sleep(0.02)
        return text in self.focused.text

    def files(self):
        return [element.get_attribute("textContent") for element in self.all(".card .name")]


@pytest.fixture
def reader(chromium):
    chromium.driver.get("about:blank")
    chromium.driver.get_log("browser")
    yield chromium
    complaints = chromium.driver.get_log("browser")
    assert not complaints
