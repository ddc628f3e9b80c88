import base64
import csv
import hashlib
import html
import html.parser
import itertools
import json
import re

import numpy as np
import pytest
import scipy.stats

from bfjax.metrics import SuccessRate
from bfjax.report import loading, markup, page
from tests.report.conftest import BREAK, EVIL, facts, hostile, made_up


class Parsed(html.parser.HTMLParser):
    """Tags with their attributes, and the text of each kind of element."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.texts = [], [], {}
        self.feed(text)

    @property
    def text(self):
        return "".join(itertools.chain.from_iterable(self.texts.values()))

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        if tag in self.open:
            while self.open.pop() != tag:
                pass

    def handle_data(self, text):
        if self.open:
            self.texts.setdefault(self.open[-1], []).append(text)


def rendered(results, cases=(), links=(), **options):
    options = {"total": 8, "sampled": True, "date": "2020-01-01"} | options
    return page.render(results, list(cases), list(links), **options)


@pytest.fixture(scope="module")
def parsed_hostile():
    results, case = hostile()
    return Parsed(rendered(results, [case], ["data:image/webp;base64,"]))


@pytest.mark.parametrize(("fooled", "correct"), [(203, 584), (0, 9), (9, 9), (1, 2)])
def test_rates_are_written_with_their_wilson_interval(fooled, correct):
    found = page.cell(SuccessRate(correct, fooled, fooled / correct))
    assert found.counts == f"{fooled}/{correct}"
    assert found.percent == f"{100 * fooled / correct:.1f}\xa0%"
    exact = scipy.stats.binomtest(fooled, correct).proportion_ci(0.95, method="wilson")
    low, high = map(float, re.fullmatch("(.*)\u2013(.*)\xa0%", found.interval).groups())
    assert low == pytest.approx(100 * exact.low, abs=0.051)
    assert high == pytest.approx(100 * exact.high, abs=0.051)


def test_what_was_not_measured_is_a_dash():
    assert page.cell(None).percent == "\u2013"
    assert page.cell(SuccessRate(0, 0, float("nan")))[:3] == ("\u2013", "0/0", "")


def test_strings_of_others_make_no_element_and_no_attribute(parsed_hostile):
    plain = rendered(made_up(), [facts(1)], ["data:image/webp;base64,"])
    own = {tag for tag, _ in Parsed(plain).tags} | {"svg", "path", "g", "text", "title", "desc"}
    own |= {"figure", "ul", "li", "details", "summary", "br", "span", "h3"}
    assert {tag for tag, _ in parsed_hostile.tags} <= own
    assert sum(tag == "script" for tag, _ in parsed_hostile.tags) == 2
    for tag, attributes in parsed_hostile.tags:
        assert attributes.get("src") != "x", tag
        assert not [name for name in attributes if name.startswith("on")], attributes
    shown = parsed_hostile.text
    assert EVIL in shown
    assert BREAK in shown
    assert f"{BREAK}{EVIL}" not in "".join(parsed_hostile.texts["script"])


def test_the_data_come_through_the_script_element_unchanged(parsed_hostile):
    results, case = hostile()
    island = next(text for text in parsed_hostile.texts["script"] if text.startswith("{"))
    assert not set("<>&") & set(island)
    found = json.loads(island)
    assert found["cases"] == [json.loads(json.dumps(case)) | {"src": "data:image/webp;base64,"}]
    assert found["runs"][0]["targets"] == results.runs[0].targets


def test_the_policy_allows_this_script_and_this_style_and_no_other(parsed_hostile):
    (policy,) = [a["content"] for t, a in parsed_hostile.tags if "http-equiv" in a]
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data: 'self'"
    assert rules["base-uri"] == rules["form-action"] == "'none'"
    texts = {"style-src": parsed_hostile.texts["style"][0]}
    texts["script-src"] = parsed_hostile.texts["script"][-1]
    for rule, text in texts.items():
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert rules[rule] == f"'sha256-{digest}'"
    for tag, attributes in parsed_hostile.tags:
        assert "style" not in attributes, tag  # the policy would forbid it


@pytest.mark.slow
def test_nothing_is_loaded_from_elsewhere(several):
    text = rendered(loading.load(several), [facts(1)], ["data:image/webp;base64,"])
    for tag, attributes in Parsed(text).tags:
        for name in ("src", "srcset", "action", "data", "xlink:href"):
            assert name not in attributes, (tag, attributes)
        if "href" in attributes:
            assert tag == "a"
            assert attributes["href"].startswith("#")  # phantoms have no citation
    style, script = markup.read("page.css"), markup.read("page.js")
    assert not re.search(r"url\(|@import|@font-face", style)
    assert not re.search(r"fetch|XMLHttpRequest|innerHTML|eval|https?:", script)


def test_colours_of_the_heat_map_are_told_apart_and_readable():
    rules = re.findall(r"\.h(\d+)\{background:#(\w{6});color:#(\w{3})\}", page._shades())
    assert len(rules) == 21

    def luminance(colour):
        values = [int(colour[i : i + 2], 16) / 255 for i in (0, 2, 4)]
        r, g, b = (v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in values)
        return 0.2126 * r + 0.7152 * g + 0.0722 * b

    lights = [luminance(back) for _, back, _ in rules]
    assert lights == sorted(lights, reverse=True)  # in grey too
    for _, back, text in rules:
        light, dark = sorted((luminance(back), luminance(text * 2)), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5


@pytest.mark.parametrize(
    ("data", "cited"), [("chest_xray", True), ("/x/chest_xray", True), ("phantom", False)]
)
def test_the_chest_x_rays_are_cited(data, cited):
    text = rendered(made_up(data=data))
    assert ("https://doi.org/10.17632/rscbjbr9sj.2" in text) == cited
    assert ("CC BY 4.0" in text) == ("Kermany" in text) == cited
    assert "no clinical tool" in text


def test_the_page_of_several_runs_has_a_matrix_a_direction_and_the_curves(several):
    text = rendered(loading.load(several))
    found = Parsed(text)
    captions = [c.strip() for c in found.texts["caption"]]
    assert [captions.count(c) for c in ("all images", "missed pneumonia", "false alarm")] == [3] * 3
    assert sum(a.get("class") == "curve" for _, a in found.tags) == 1
    identities = [a["id"] for _, a in found.tags if "id" in a]
    assert len(identities) == len(set(identities))
    assert 'id="gallery"' not in text  # no cases


def test_the_page_of_one_run_has_its_directions_as_rows(single):
    found = Parsed(rendered(loading.load(single)))
    assert "made on one" in [c.strip() for c in found.texts["caption"]]
    rows = [text.strip() for text in found.texts["th"]]
    assert {"all images", "missed pneumonia", "false alarm", "one", "two"} <= set(rows)


def test_success_after_saving_and_image_quality_are_shown_where_they_were_measured(single, several):
    run = loading.load(single).runs[0]
    text = html.unescape(" ".join(re.sub("<[^>]*>", " ", rendered(loading.load(single))).split()))
    kept = {kind: f"{rate.fooled}/{rate.correct}" for kind, rate in run.saved_as.items()}
    for label, kind in (("8-bit PNG", "png"), ("JPEG of quality 75", "jpeg")):
        counts = run.summary["targets"]["one"]["saved_as"][kind]
        assert kept[kind] == f"{counts['fooled']}/{counts['correct']}"
        assert re.search(rf"success after saving {label} [\d.]+ % {kept[kind]}\b", text)
    with (single / "records.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    brisque = [float(row["brisque"]) for row in rows]
    before = [float(row["brisque_clean"]) for row in rows]
    change = np.subtract(brisque, before)
    means = f"{np.mean(before):.1f} → {np.mean(brisque):.1f}, {np.mean(change):+.1f}"
    assert f"BRISQUE (OpenCV's, trained on LIVE release 2) {means}" in text
    low, high = scipy.stats.t.interval(
        0.95, len(change) - 1, np.mean(change), scipy.stats.sem(change)
    )
    assert f"({low:+.1f} to {high:+.1f})" in text
    assert f"SSIM {np.mean([float(row['ssim']) for row in rows]):.3f}" in text
    assert "BRISQUE" not in Parsed(rendered(loading.load(several))).text


def test_it_says_which_cases_are_shown():
    case = [facts(1)], ["data:image/webp;base64,"]
    assert "no random sample" in rendered(made_up(), *case)
    assert "no images were stored" in rendered(made_up(), *case, sampled=False)
    whole = rendered(made_up(), *case, total=1)
    assert not re.search("random sample|were stored", whole)


def test_settings_are_there_in_full(single):
    results = loading.load(single)
    text = Parsed(rendered(results)).text
    for key, value in results.runs[0].settings.items():
        if key != "models":
            assert key in text
            assert json.dumps(value) in text
    for model in results.runs[0].models.values():
        assert model["sha256"] in text
    assert results.environment["versions"]["jax"] in text
