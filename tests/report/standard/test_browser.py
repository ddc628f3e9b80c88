"""The page of audits in a real browser, from file://, as its readers have it."""

import jax.numpy as jnp
import numpy as np
import pytest

from bfjax import data, report
from bfjax.field import legendre
from tests.report.browser import FAINT
from tests.report.standard.conftest import SIZE, lights, make_up

PIXELS = """
const { width, height } = arguments[0];
const copy = Object.assign(document.createElement("canvas"), { width, height });
const context = copy.getContext("2d", { willReadFrequently: true });
context.drawImage(arguments[0], 0, 0);
return Array.from(context.getImageData(0, 0, width, height).data);
"""


@pytest.fixture(scope="module")
def page(audited, tmp_path_factory):
    out = tmp_path_factory.mktemp("page") / "report.html"
    return report.make_report(audited, out=out).path


def drawn(reader, path, **options):
    """Opens the page, and waits until all cases are painted."""
    reader.open(path, **options)
    return painted(reader)


def painted(reader):
    reader.driver.set_script_timeout(10)
    reader.driver.execute_async_script(
        "const done = arguments[0], wait = () => [...document.querySelectorAll('.lit')]"
        ".every((c) => c.ariaLabel) ? done() : setTimeout(wait, 10); wait();"
    )
    return reader


def grey(reader, selector, number=0):
    """The first channel of a canvas."""
    values = np.array(reader.run(PIXELS, reader.all(selector)[number]))
    return values.reshape(SIZE, SIZE, 4)


def slide(reader, steps, number=0):
    reader.run(
        "const s = document.querySelectorAll('.strength input')[arguments[0]];"
        "s.value = String(arguments[1]); s.dispatchEvent(new Event('input', { bubbles: true }));",
        number,
        steps,
    )


@pytest.mark.parametrize("encoding", ["linear", "log"])
def test_the_light_is_the_same_as_in_numpy(reader, tmp_path, encoding):
    smallest = (0.0, 0.4, 0.05, 0.2)
    make_up(tmp_path, "one", smallest, encoding=encoding)
    drawn(reader, report.make_report(tmp_path).path)
    source = data.load("phantom", "test", image_size=SIZE, num_examples=4)
    field = legendre((SIZE, SIZE), degree=4)
    params = lights(np.array(smallest))
    for number, row in enumerate((2, 3, 1)):  # nearest to breaking first
        log_field = np.asarray(field.log_field(jnp.asarray(params[row])), np.float64)
        image = source[row]["image"][..., 0].astype(np.float64) / 255
        for steps in (0, 37, 100, 200):
            slide(reader, steps, number)
            share = steps / 100
            wanted = image * np.exp(share * log_field)
            if encoding == "log":
                wanted = image - 0.29 * share * log_field
            found = grey(reader, ".lit", number)
            assert (found[..., 3] == 255).all()
            assert (found[..., 0] == found[..., 1]).all()
            np.testing.assert_allclose(found[..., 0], 255 * wanted.clip(0, 1), atol=0.501)
        assert np.ptp(log_field) == pytest.approx(smallest[row], rel=1e-4)


def test_the_colours_of_a_field_say_its_sign(reader, tmp_path):
    make_up(tmp_path, "one", (0.0, 0.4))
    drawn(reader, report.make_report(tmp_path).path)
    params = jnp.asarray(lights(np.array([0.0, 0.4]))[1])
    log_field = np.asarray(legendre((SIZE, SIZE), degree=4).log_field(params))
    colours = grey(reader, ".field")
    span = np.abs(log_field).max()
    for sign in (1, -1):  # orange is redder, purple bluer
        there = sign * log_field > 0.2 * span
        assert (sign * (colours[..., 0] - colours[..., 2])[there] > 0).all()
    assert (colours[np.abs(log_field) < 0.005 * span][..., :3] > 230).all()


def test_the_nearest_come_first_and_say_what_the_model_said(reader, page):
    drawn(reader, page)
    assert reader.texts("#model option") == ["strong", "middling", "weak"]
    assert reader.find("#model").get_attribute("value") == "1"  # nothing turns the strong one
    assert reader.find("#count").text == "4 of 4 cases"
    told = reader.texts(".light .told")
    first = [text.split(":")[0] for text in told]
    assert first == ["Breaks at 0.05", "Breaks at 0.15", "Breaks at 0.3", "Breaks at 0.4"]
    assert told[1].endswith(": no more than a misused machine makes.")
    assert told[2].endswith(": no more than an uncorrected machine makes.")
    assert reader.texts(".light .name")[0] == "phantom0-test-00002.png"
    said = reader.texts(".light .answers")[0].split("\n")
    assert said[0::2] == ["true class", "without light", "at the mark"]
    assert said[1] == "NORMAL"
    assert said[3] == "NORMAL, P 0.881"  # 1 / (1 + exp(−2))
    assert said[5] == "PNEUMONIA, P 0.498"
    reader.choose("#model", "2")
    painted(reader)
    assert reader.find("#count").text == "5 of 5 cases"
    reader.choose("#label", "PNEUMONIA")
    assert reader.find("#count").text == "3 of 5 cases"
    reader.find("#text").send_keys("00003")
    assert reader.texts(".light .name") == ["phantom0-test-00003.png"]
    said = reader.texts(".light .answers")[0].split("\n")  # what it said there was not stored
    assert said[4:] == ["at the mark", "wrong, how surely was not stored",
                        "worst found within 0.1", "NORMAL, P 0.269"]  # fmt: skip


def test_the_slider_has_the_breaking_range_among_its_steps(reader, tmp_path):
    make_up(tmp_path, "one", (0.0, 0.05, 0.9, 1.6), ranges=[2.0])
    drawn(reader, report.make_report(tmp_path).path)
    sliders = reader.all(".strength input")
    assert [s.get_attribute("max") for s in sliders] == ["200", "155", "100"]  # to 0.1, 1.4, 1.6
    assert {s.get_attribute("value") for s in sliders} == {"100"}
    reader.run("arguments[0].focus()", sliders[0])
    for key, told in (
        (None, "log-range 0.05, its breaking range"),
        ("ARROW_LEFT", "log-range 0.0495, below its breaking range"),
        ("HOME", "log-range 0, no light"),
        ("END", "log-range 0.1, beyond its breaking range"),
    ):
        if key:
            reader.press(key)
        assert sliders[0].get_attribute("aria-valuetext") == told
    for slider, mark in zip(sliders, reader.all(".tick"), strict=True):
        there, line = slider.rect, mark.rect
        share = (line["x"] + 1 - there["x"] - 8) / (there["width"] - 16)
        assert share == pytest.approx(100 / int(slider.get_attribute("max")), abs=0.01)


def test_many_cases_come_a_few_at_a_time(reader, tmp_path):
    make_up(tmp_path, "one", np.linspace(0.01, 0.39, 20))
    drawn(reader, report.make_report(tmp_path).path)
    assert len(reader.all(".light")) == 12
    assert reader.find("#more").text == "Show 8 more of 8"
    reader.find("#more").click()
    assert len(reader.all(".light")) == 20
    assert reader.focused.accessible_name.startswith("Strength of the light on phantom0")
    assert not reader.find("#more").is_displayed()


@pytest.mark.parametrize("width", [360, 640, 1280])
def test_nothing_is_wider_than_the_window(reader, page, width):
    drawn(reader, page, width=width)
    reader.run("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    whole = "const d = document.documentElement; return [d.scrollWidth, d.clientWidth, innerWidth]"
    inner, outer, window = reader.run(whole)
    assert inner <= outer <= window == width
    for mark in reader.all(".mark"):
        assert mark.rect["x"] >= 0
        assert mark.rect["x"] + mark.rect["width"] <= width


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_both_schemes_are_readable(reader, page, scheme):
    drawn(reader, page, prefers_color_scheme=scheme)
    reader.run("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    found = reader.run(FAINT)
    assert len(found) > 150
    assert [text for text in found if text[0] < 4.5] == []


def test_everything_has_a_name_and_is_reached_by_tab(reader, page):
    drawn(reader, page)
    named = "main input, main select, main button:not([hidden]), canvas, svg.curve"
    for element in reader.all(named):
        assert element.accessible_name
    seen = []
    for _ in range(40):
        reader.press("TAB")
        element = reader.focused
        if element.tag_name == "body":
            break
        seen.append(element)
    sliders = [element for element in seen if element.get_attribute("type") == "range"]
    assert len(sliders) == 4
    assert seen[0].get_attribute("class") == "skip"
