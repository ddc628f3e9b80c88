"""The page in a real browser, from file://, as its readers have it."""

import re

import pytest

from bfjax import report
from bfjax.report import page
from tests.report.browser import FAINT
from tests.report.conftest import BREAK, EVIL, facts, hostile, made_up, outcome, picture, rows_of


@pytest.fixture(scope="module")
def several_page(several, tmp_path_factory):
    out = tmp_path_factory.mktemp("page") / "report.html"
    return report.make_report(several, out=out).path


@pytest.fixture(scope="module")
def single_page(single, tmp_path_factory):
    out = tmp_path_factory.mktemp("page") / "report.html"
    return report.make_report(single, out=out).path


@pytest.fixture(scope="module")
def hostile_page(tmp_path_factory):
    results, case = hostile()
    return written(tmp_path_factory.mktemp("page") / "report.html", results, [case])


def written(path, results, cases):
    path.with_name("picture.webp").write_bytes(picture())
    links = ["picture.webp"] * len(cases)
    text = page.render(results, cases, links, total=len(cases), sampled=False, date="2020")
    path.write_text(text, encoding="utf-8")
    return path


def base(name):
    return name.rpartition("/")[2]


@pytest.mark.slow
def test_it_opens_from_a_file_and_all_its_pictures_load(reader, single_page, single):
    reader.open(single_page)
    assert "phantom" in reader.driver.title
    assert reader.find("#count").text == "12 of 12 cases"
    assert reader.files() == sorted(base(row["file"]) for row in rows_of(single))
    reader.run("document.querySelectorAll('img').forEach((img) => { img.loading = 'eager'; })")
    loaded = "return [...document.querySelectorAll('.card img')].map((img) => img.naturalWidth)"
    reader.run(
        "return Promise.all([...document.querySelectorAll('.card img')].map(i => i.decode()))"
    )
    assert set(reader.run(loaded)) == {4 * 36}


def test_pictures_beside_the_page_load_too(reader, tmp_path):
    path = written(tmp_path / "report.html", made_up(), [facts(1)])
    reader.open(path)
    reader.run("return document.querySelector('.card img').decode()")
    assert reader.run("return document.querySelector('.card img').naturalWidth") == 4 * 12


def test_cards_show_the_clean_and_the_attacked_panel_and_no_other(reader, tmp_path):
    reader.open(written(tmp_path / "report.html", made_up(), [facts(1)]))
    frame, img = reader.find(".card .panel").rect, reader.find(".card img").rect
    pixel = img["width"] / 48  # four panels of 8 with gutters of 2
    assert frame["width"] == pytest.approx(20 * pixel, rel=0.01)
    assert frame["x"] - img["x"] == pytest.approx(2 * pixel, abs=0.5)
    reader.find(".card").click()
    for k, selector in enumerate(("#clean", "#adversarial", "#field img", "#difference img")):
        img = reader.find(selector).rect
        frame = reader.run("return arguments[0].parentElement.getBoundingClientRect()",
                           reader.find(selector))  # fmt: skip
        pixel = img["width"] / 48
        assert frame["width"] == pytest.approx(8 * pixel, rel=0.01)
        assert frame["height"] == pytest.approx(8 * pixel, rel=0.01)
        assert frame["x"] - img["x"] == pytest.approx((12 * k + 2) * pixel, abs=0.6)


@pytest.mark.parametrize("judge", ["", "two"])
def test_filters_show_what_they_say(reader, single_page, single, judge):
    rows = rows_of(single)
    reader.open(single_page)
    reader.choose("#judge", judge)
    prefix = "two:" if judge == "two" else ""
    seen = 0
    for kind in ("fooled", "resisted", "wrong"):
        for label in ("", "NORMAL", "PNEUMONIA"):
            reader.choose("#outcome", kind)
            reader.choose("#label", label)
            wanted = [base(r["file"]) for r in rows
                      if outcome(r, prefix) == kind and label in ("", r["label"])]  # fmt: skip
            assert reader.files() == sorted(wanted)
            assert reader.find("#count").text == f"{len(wanted)} of 12 cases"
            seen += len(wanted)
    assert seen == 2 * len(rows)
    reader.choose("#outcome", "")
    reader.choose("#label", "")
    reader.find("#text").send_keys("TEST-00003", "\n")  # the Enter submits nothing
    assert reader.files() == ["phantom0-test-00003.png"]
    reader.find(".card").click()  # straight from the text, which thereby has changed
    assert reader.find("#case-title").text == "phantom0-test-00003.png"


def test_sorting_by_file_score_and_change(reader, single_page, single):
    rows = rows_of(single)
    keys = {
        "score": lambda r: float(r["clean_score"]) - float(r["adversarial_score"]),
        "change": lambda r: float(r["max_change"]),
        "file": lambda r: base(r["file"]),
    }
    by_file = {base(row["file"]): row for row in rows}
    reader.open(single_page)
    for name, key in keys.items():
        reader.choose("#sort", name)
        for order in ("1", "-1"):
            reader.choose("#order", order)
            found = [key(by_file[file]) for file in reader.files()]
            assert found == sorted(map(key, rows), reverse=order == "-1"), name
        reader.choose("#sort", "file" if name != "file" else "score")
    reader.choose("#sort", "score")  # the largest first, as one wants them
    assert reader.find("#order").get_attribute("value") == "-1"


@pytest.mark.slow
def test_runs_are_told_apart(reader, several_page, several):
    reader.open(several_page)
    assert reader.find("#count").text == "24 of 24 cases"
    reader.choose("#run", "1")
    assert reader.find("#count").text == "12 of 24 cases"
    assert set(reader.texts(".card .run")) == {"ours on two"}
    reader.choose("#outcome", "fooled")
    rows = rows_of(several / "ours" / "two")
    assert reader.files() == sorted(base(r["file"]) for r in rows if outcome(r) == "fooled")


def test_a_case_opens_moves_on_and_closes_by_keyboard(reader, single_page, single):
    rows = {base(row["file"]): row for row in rows_of(single)}
    reader.open(single_page)
    names = reader.files()
    reader.run("document.querySelectorAll('.card')[1].focus()")
    reader.press("ENTER")
    assert reader.run("return document.querySelector('dialog').open")
    assert reader.focused.get_attribute("id") == "case-title"
    assert reader.find("#case-title").text == names[1]
    reader.press("ARROW_RIGHT", "ARROW_RIGHT", "ARROW_LEFT", "ARROW_RIGHT")
    assert reader.find("#case-title").text == names[3]
    assert reader.find("#case-place").text.startswith("4 of 12, true class PNEUMONIA")
    row = rows[names[3]]
    for line, prefix, model in zip(reader.all("#judged tr"), ("", "two:"), ("one", "two"),
                                   strict=True):  # fmt: skip
        shown = line.text
        assert shown.startswith(model)
        assert f"{float(row[f'{prefix}clean_score']):.4f}" in shown
        assert f"{float(row[f'{prefix}adversarial_score']):.4f}" in shown
        assert row[f"{prefix}adversarial_prediction"] in shown
    for _ in range(12):  # Tab does not leave the dialog for the page
        reader.press("TAB")
        inside = (
            "const e = document.activeElement; return e === document.body || !!e.closest('dialog')"
        )
        assert reader.run(inside)
    reader.press("ESCAPE")
    assert not reader.run("return document.querySelector('dialog').open")
    assert reader.comes_back_to(names[3])


def test_the_first_and_the_last_case_keep_the_focus(reader, single_page):
    reader.open(single_page)
    reader.all(".card")[0].click()
    assert not reader.find("#previous").is_enabled()
    for _ in range(11):
        reader.find("#next").click()
    assert reader.find("#case-place").text.startswith("12 of 12")
    assert not reader.find("#next").is_enabled()
    assert reader.focused.get_attribute("id") == "case-title"
    reader.press("ARROW_RIGHT", "ARROW_LEFT")
    assert reader.find("#case-place").text.startswith("11 of 12")
    reader.find("#close").click()
    assert not reader.run("return document.querySelector('dialog').open")


def test_the_slider_moves_by_keyboard_and_by_mouse(reader, single_page):
    reader.open(single_page)
    reader.all(".card")[2].click()
    title, split = reader.find("#case-title").text, reader.find("#split")
    clip = "return getComputedStyle(document.querySelector('.over')).clipPath"
    assert reader.run(clip) == "inset(0px 0px 0px 50%)"
    reader.run("arguments[0].focus()", split)
    reader.press(*["ARROW_RIGHT"] * 5)
    assert split.get_attribute("value") == "55"
    assert reader.run(clip) == "inset(0px 0px 0px 55%)"
    assert split.get_attribute("aria-valuetext") == "55 % clean, 45 % attacked"
    reader.press("HOME")
    assert reader.run(clip) == "inset(0px 0px 0px 0%)"
    assert reader.find("#case-title").text == title  # the arrows moved the slider only
    reader.drag("#pictures", 0.5, 0.8)
    assert float(split.get_attribute("value")) == pytest.approx(80, abs=1)
    line, frame = reader.find(".line").rect, reader.find("#pictures").rect
    assert (line["x"] - frame["x"]) / frame["width"] == pytest.approx(0.8, abs=0.02)
    reader.drag("#pictures", 0.8, 1.5)  # out of the picture
    assert split.get_attribute("value") == "100"


def test_the_map_is_there_only_where_one_was_made(reader, several_page):
    reader.open(several_page)
    reader.choose("#run", "0")
    for k in (1, 2):
        reader.all(".card")[2 * k].click()
        expected = reader.find("#case-title").text == "phantom0-test-00002.png"
        assert reader.find("#map").is_displayed() == expected
        assert reader.find("#field").is_displayed()
        reader.press("ESCAPE")


@pytest.mark.slow
def test_many_cases_come_a_few_at_a_time(reader, tmp_path):
    reader.open(written(tmp_path / "report.html", made_up(), [facts(i) for i in range(150)]))
    assert reader.find("#count").text == "150 of 150 cases"
    assert len(reader.files()) == 60
    reader.find("#more").click()
    assert len(reader.files()) == 120
    assert "60.png" in reader.focused.text  # the first of the new ones
    reader.all(".card")[119].click()
    reader.press("ARROW_RIGHT", "ESCAPE")  # to a case that has no card yet
    assert reader.comes_back_to("120.png")
    assert len(reader.files()) == 150
    assert not reader.find("#more").is_displayed()
    reader.choose("#sort", "score")
    assert reader.files()[0] == "0.png"  # 0.9 to 0
    assert len(reader.files()) == 60


@pytest.mark.parametrize("which", ["single_page", "several_page", "hostile_page"])
@pytest.mark.parametrize("width", [360, 640, 1280])
def test_nothing_is_wider_than_the_window(reader, request, which, width):
    reader.open(request.getfixturevalue(which), width=width)
    reader.run("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    whole = "const d = document.documentElement; return [d.scrollWidth, d.clientWidth, innerWidth]"
    inner, outer, window = reader.run(whole)
    assert inner <= outer <= window == width
    if which != "hostile_page" and width == 360:  # one column
        cards = [element.rect for element in reader.all(".card")]
        assert {card["x"] for card in cards} == {cards[0]["x"]}
    reader.run("document.querySelector('.card').click()")
    dialog = "const d = document.querySelector('dialog'); return [d.scrollWidth, d.clientWidth]"
    inner, outer = reader.run(dialog)
    assert inner <= outer <= width


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_both_schemes_are_readable(reader, several_page, scheme):
    reader.open(several_page, prefers_color_scheme=scheme)
    red = reader.run("return getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0]")
    assert (int(red) < 60) == (scheme == "dark")
    reader.run("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    for opened in (False, True):
        if opened:
            reader.run("document.querySelector('.card').click()")
        found = reader.run(FAINT)
        assert len(found) > 150
        assert [text for text in found if text[0] < 4.5] == []


def test_motion_is_for_those_who_want_it(reader, single_page):
    for wish, behaviour in (("reduce", "auto"), ("no-preference", "smooth")):
        reader.open(single_page, prefers_reduced_motion=wish)
        style = "return getComputedStyle(document.documentElement).scrollBehavior"
        assert reader.run(style) == behaviour


def test_everything_is_reached_by_tab_and_the_focus_is_seen(reader, single_page):
    reader.open(single_page)
    seen = []
    for _ in range(45):
        reader.press("TAB")
        element = reader.focused
        if element.tag_name == "body":
            break
        seen.append(element.get_attribute("id") or element.get_attribute("class")
                    or element.get_attribute("href") or element.tag_name)  # fmt: skip
        outline = (
            "const s = getComputedStyle(arguments[0]); return [s.outlineStyle, s.outlineWidth]"
        )
        assert reader.run(outline, element) == ["solid", "3px"], seen[-1]
    assert seen[0] == "skip"
    controls = ["text", "label", "judge", "outcome", "sort", "order"]
    assert [name for name in seen if name in controls] == controls
    assert seen.count("card") == 12
    assert "pre" in seen
    assert len(seen) < 45
    reader.open(single_page)
    reader.press("TAB", "ENTER")  # the first stop, which a pointer cannot reach
    assert reader.focused.get_attribute("id") == "main"


def test_pictures_and_fields_have_names(reader, several_page):
    reader.open(several_page)
    reader.run("document.querySelector('.card').click()")
    named = "return [...document.images].filter((i) => i.checkVisibility()).map((i) => i.alt)"
    alternatives = reader.run(named)
    assert len(alternatives) > 24
    assert all("phantom0-test" in text for text in alternatives)
    for element in reader.all("dialog, dialog button, dialog input"):
        assert element.accessible_name
    reader.press("ESCAPE")
    for element in reader.all("main input, main select, main button:not([hidden])"):
        assert element.accessible_name
    for curve in reader.all("svg.curve"):
        name = curve.accessible_name
        assert re.match(r"Success rate over epsilon one: \d+ % at 0\.005, \d+ % at 0\.01", name)


def test_hostile_names_are_text(reader, hostile_page):
    reader.open(hostile_page)
    assert reader.run("return document.querySelectorAll('img[src=x], [onerror]').length") == 0
    assert reader.run("return document.scripts.length") == 2
    assert EVIL in reader.find("h1").text
    assert reader.find(".card .name").get_attribute("textContent") == EVIL
    assert BREAK in reader.find("pre").text
    reader.find(".card").click()
    assert f"{BREAK}b" in reader.all("#judged td")[1].text
    assert reader.find("#case-title").text == EVIL
    assert f"{BREAK}/{EVIL}" in reader.find("#facts").text
    assert BREAK.split(">")[0] in reader.find("#clean").get_attribute("alt")
    reader.press("ESCAPE")


def test_the_policy_stops_scripts_and_pictures_from_elsewhere(reader, single_page):
    reader.open(single_page)
    reader.run(
        "const script = document.createElement('script'); script.textContent = 'window.ran = 1';"
        "const img = new Image(); img.src = 'https://127.0.0.1:9/x.png';"
        "document.body.append(script, img)"
    )
    assert reader.run("return window.ran") is None
    complaints = [entry["message"] for entry in reader.driver.get_log("browser")]
    assert len(complaints) == 2
    assert all("Content Security Policy" in text for text in complaints)
