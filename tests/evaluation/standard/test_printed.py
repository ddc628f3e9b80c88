"""What `bfjax audit` prints, on a terminal of 80 columns."""

from pathlib import Path

import pytest

from bfjax.evaluation.standard import printed

RATES = {
    "accuracy": 0.75,
    "sensitivity": 0.5,
    "specificity": None,
    "auc": 0.625,
    "intervals": {"accuracy": [0.6, 0.9], "sensitivity": [0.25, 0.8], "auc": [None, None]},
}
GAIN = {"mean": -0.0625, "low": -0.2, "high": 0.1}
FLAG = {"images": 3, "means": "It is doubtful."}


def audit(takes, *, specificity=None, **more):
    rates = RATES | {"specificity": specificity}
    tiers = [rates | {"log_range": rho} for rho in (0.1, 0.4)]
    row = {"tiers": tiers, "takes": takes, "flags": {"saturated": FLAG}}
    return {
        "settings": {"exposures": ["fixed"], "ranges": [0.1, 0.4]},
        "images": 8,
        "clean": rates,
        "rows": {"fixed": row, "alone": row | {"flags": {}}},
        "machine": rates | {"lights": {"log_range": 1.22}},
    } | more


@pytest.fixture(autouse=True)
def narrow(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")


def said(capsys, found, transfer):
    """The text, and the cells of its tables."""
    printed.show(found, transfer, Path("out"))
    text = capsys.readouterr().out
    rows = [line for line in text.splitlines() if line.startswith(chr(0x2502))]
    return text, [[cell.strip() for cell in row.split(chr(0x2502))[1:-1]] for row in rows]


def test_the_model_that_takes_most_comes_first_and_all_rates_have_intervals(capsys):
    text, rows = said(capsys, {"weak": audit(0.2), "strong": audit(None, specificity=1.0)}, {})
    assert rows[0] == ["strong", *["75.0%"] * 4, "> 0.4"]
    assert rows[1] == ["weak", *["75.0%"] * 4, "0.20"]
    assert ["0.4", "75.0 (60-90)", "50.0 (25-80)", "62.5"] in rows  # without an image of a class
    assert ["0.4", "75.0 (60-90)", "50.0 (25-80)", "100.0", "62.5"] in rows
    assert text.count("exposure fixed, 3 images: It is doubtful.") == 2
    assert "weak, a machine's: set-ups whose log-range is 1.22 in the median" in text
    assert "universal" not in text
    assert "details in out: MODEL/ holds audit.json" in text


def test_corrections_and_what_transfers_are_told_where_they_were_tested(capsys):
    rates = dict.fromkeys(("uncorrected", "oblivious", "adaptive"), 0.25)
    rates |= {"straight_through": 0.125, "gradient_free": 0.375, "log_range": 0.2, "gain": GAIN}
    judged = {"clean": RATES, "tiers": [rates], "flags": {"zero_gradient": FLAG}}
    one = {"answer": "NORMAL", "share": 0.97, "means": "as always"}
    universal = {"tiers": [{"log_range": 0.4, "one_answer": one}]}
    found = {"a": audit(0.1, corrections={"polynomial": judged}, universal=universal)}
    transfer = {"models": ["a", "b"], "ranges": [0.4], "accuracy": [[[0.5, 0.75]], [[0.25, 0.0]]]}
    text, rows = said(capsys, found, transfer)
    whole = " ".join(text.split())
    assert "a behind the polynomial correction: 75.0 % right without light, under it" in whole
    (row,) = (cells for cells in rows if cells[:2] == ["0.2", "25.0"])
    assert row[2:6] == ["25.0", "25.0", "12.5", "37.5"]
    assert row[6].startswith("-6.2")
    assert "a, polynomial correction, 3 images: It is doubtful." in text
    assert "a, log-range 0.4, 97% NORMAL: Universal light drives the model to one answer" in text
    assert ["a", "0.4", "50.0%", "75.0%"] in rows
    assert ["b", "0.4", "25.0%", "0.0%"] in rows
