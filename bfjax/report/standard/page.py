"""The page of audits: what its template shows, computed; no numbers are made up in the template."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bfjax.evaluation.standard import UNEVEN, gain_in_points, range_in_words
from bfjax.report import markup, pictures
from bfjax.report.page import Cell
from bfjax.report.standard import figure
from bfjax.report.standard.cases import Shown
from bfjax.report.standard.cells import DASH, SPACE, architecture, cell, share
from bfjax.report.standard.loading import Audited
from bfjax.report.standard.proven import Proven, section
from bfjax.report.standard.ranking import Group

_COLOURS = 129  # an odd number has a middle
_METRICS = ("accuracy", "sensitivity", "specificity", "auc")


def render(
    groups: Sequence[Group],
    differ: Sequence[str],
    shown: Shown,
    *,
    proven: Sequence[Proven] = (),
    unfinished: Sequence[str],
    date: str,
) -> str:
    """The whole page.

    Args:
      groups: the audits; those of one group are ranked against each other.
      differ: what keeps the groups apart.
      shown: the cases; their audits are numbered group by group.
      proven: the certificates.
      unfinished: where audits lie that are not finished.
      date: when the page is made.

    Returns:
      HTML that loads nothing.
    """
    audits = [one for group in groups for one in group.audits]
    data = {_data(one.audit) for one in audits} | {_data(one.found) for one in proven}
    template = markup.templates().get_template("standard/page.html")
    return template.render(
        groups=[_group(group, k) for k, group in enumerate(groups)],
        differ=_listed(differ),
        unfinished=unfinished,
        audits=[_settings(one.name, one.audit) for one in audits],
        proven=section(proven) if proven else None,
        certified=[_settings(one.name, one.found) for one in proven],
        turned=[_turned(one) for one in audits],
        data_name=_listed(sorted(data)),
        chest_xray="chest_xray" in data,
        date=date,
        shown=len(shown.facts),
        data=_island(audits, shown),
        style=markup.read("page.css") + markup.read("standard/page.css") + markup.bars(),
        script=markup.read("standard/page.js"),
    )


def _data(audit: dict[str, Any]) -> str:
    """The name of a data set, without the folders in which it lies."""
    name = audit["settings"]["data"]
    return Path(name).name or name


def _listed(words: Sequence[str]) -> str:
    return " and ".join(part for part in (", ".join(words[:-1]), *words[-1:]) if part)


def _group(group: Group, number: int) -> dict[str, Any]:
    settings, first = group.settings, group.audits[0]
    sides = {one.audit["settings"]["image_size"] for one in group.audits}
    ranked = []
    for one in group.audits:
        row = one.audit["rows"][group.row]
        flagged = {name for found in one.audit["rows"].values() for name in found["flags"]}
        threshold = one.audit["settings"]["threshold"]
        ranked.append(
            {
                "name": one.name,
                "architecture": architecture(one.name, one.audit),
                "threshold": None if threshold == 0.5 else f"{threshold:g}",
                "images": one.audit["images"],
                "clean": cell(one.audit["clean"], "accuracy"),
                "tiers": [cell(tier, "accuracy") for tier in row["tiers"]],
                "machine": cell(one.audit["machine"], "accuracy"),
                "takes": _takes(one, group.row),
                "gradients": row["gradients"],
                "flags": ", ".join(sorted(name.replace("_", " ") for name in flagged)),
            }
        )
    return {
        "title": f"{_data(first.audit)}, {settings['split']} split",
        "digest": settings["images"][:8],
        "settings": settings,
        "side": sides.pop() if len(sides) == 1 else None,
        "lead": _lead(group),
        "row": figure.ROWS.get(group.row, group.row),
        "ranges": [(f"{rho:g}", range_in_words(rho)) for rho in settings["ranges"]],
        "ranked": ranked,
        "flags": [flag for one in group.audits for flag in _flags(one)],
        "details": [_details(one) for one in group.audits],
        "figures": [_figure(one, group.row, f"{number}-{k}") for k, one in enumerate(group.audits)],
    }


def _takes(one: Audited, row: str) -> str:
    takes = one.audit["rows"][row]["takes"]
    return f">{SPACE}{max(one.audit['settings']['ranges']):g}" if takes is None else f"{takes:.3g}"


def _lead(group: Group) -> str:
    """What somebody who reads one sentence reads."""
    first = group.audits[0]
    takes, name = first.audit["rows"][group.row]["takes"], first.name
    clean = first.audit["clean"]["accuracy"]
    most = f"{name} takes most. " if len(group.audits) > 1 else ""
    if takes == 0:
        return f"{most}{name} gets no image right without light."
    end = max(group.settings["ranges"]) if takes is None else takes
    found = (
        f"{most}Without light {name} is right about {clean:.1%} of the images. Nine in ten of "
        f"these answers stay right under all light that was tried, up to a log-range of {end:.3g}."
    )
    return found if takes is None else f"{found} That is {range_in_words(takes)}."


def _flags(one: Audited) -> list[tuple[str, str, int, str]]:
    """What speaks against the test, or against reading much into it."""
    found = [
        (one.name, figure.ROWS.get(row, row), flag["images"], flag["means"])
        for row, of_row in one.audit["rows"].items()
        for flag in of_row["flags"].values()
    ]
    found += [
        (one.name, f"{name} correction", flag["images"], flag["means"])
        for name, judged in one.audit.get("corrections", {}).items()
        for flag in judged.get("flags", {}).values()  # not in older ones
    ]
    for tier in one.audit.get("universal", {"tiers": []})["tiers"]:
        if means := tier["one_answer"].get("means"):
            where = f"universal light within {tier['log_range']:g}"
            count = round(tier["one_answer"]["share"] * one.audit["images"])
            found.append((one.name, where, count, means))
    return found


def _details(one: Audited) -> dict[str, Any]:
    """All that was measured of one model, light by light."""
    audit = one.audit
    universal = any("universal_accuracy" in t for r in audit["rows"].values() for t in r["tiers"])
    extra = 1 + universal

    def cells(found: dict[str, Any], *more: Cell) -> list[Cell]:
        return [*(cell(found, metric) for metric in _METRICS), *more]

    empty = [Cell("", "", "")] * extra
    parts = [("", [("without light", cells(audit["clean"], *empty))])]
    for row, found in audit["rows"].items():
        lines = []
        for tier in found["tiers"]:
            more = [share(tier["random_accuracy"])]
            more += [share(tier.get("universal_accuracy"))] * universal
            lines.append((f"within {tier['log_range']:g}", cells(tier, *more)))
        parts.append((figure.ROWS.get(row, row), lines))
    uneven = audit["machine"].get("lights", {}).get("log_range")  # not in older ones
    how = f", log-range {uneven:.2f} in the median" if uneven else ""
    parts.append(("", [(f"worst set-up of a machine{how}", cells(audit["machine"], *empty))]))
    names = audit["settings"]["class_names"]
    found = [f"{name} found" for name in reversed(names)] if len(names) == 2 else ["", ""]
    heads = [("accuracy", ""), ("sensitivity", found[0]), ("specificity", found[1]),
             ("AUC", "under worst light at most"),
             ("under random light", "mean accuracy")]  # fmt: skip
    heads += [("under universal light", "accuracy")] * universal
    spent = [
        (figure.ROWS.get(row, row), f"{found['gradients']['mean']:.0f}",
         f"{found['gradients']['most']:.0f}", _takes(one, row), _quantiles(found["smallest"]))
        for row, found in audit["rows"].items()
    ]  # fmt: skip
    return {"name": one.name, "heads": heads, "parts": parts, "spent": spent,
            "corrections": _corrections(audit)}  # fmt: skip


_AGAINST = ("uncorrected", "oblivious", "adaptive", "straight_through", "gradient_free", "worst")


def _corrections(audit: dict[str, Any]) -> list[tuple[str, str, str, list[str], str]]:
    """Accuracy behind each correction, where some were tested, and the gain that is real."""
    found = []
    for name, judged in audit.get("corrections", {}).items():
        clean = share(judged["clean"]["accuracy"]).percent
        for tier in judged["tiers"]:
            rates = [share(tier[key]).percent for key in _AGAINST]
            rho = f"{tier['log_range']:g}"
            found.append((name, clean, rho, rates, gain_in_points(tier["gain"])))
    return found


def _quantiles(smallest: dict[str, float | None]) -> list[str]:
    found = (smallest.get(name) for name in ("quarter", "half"))
    return [DASH if x is None else f"{x:.3g}" for x in found]


def _figure(one: Audited, row: str, identity: str) -> dict[str, Any]:
    svg, legend = figure.plot(one.audit, row, identity=f"curve-{identity}")
    return {"name": one.name, "svg": svg, "keys": legend}


def _turned(one: Audited) -> dict[str, Any]:
    """How many of the right answers light turned, where uneven light alone was tested."""
    audit = one.audit
    right = round(audit["clean"]["accuracy"] * audit["images"])
    row = audit["rows"].get(UNEVEN)
    left = right if row is None else round(row["curve"]["accuracy"][-1] * audit["images"])
    end = f"{max(audit['settings']['ranges']):g}"
    return {"name": one.name, "right": right, "turned": right - left, "end": end,
            "tested": row is not None, "has_shards": one.has_shards}  # fmt: skip


def _settings(name: str, found: dict[str, Any]) -> dict[str, Any]:
    settings = {k: v for k, v in found["settings"].items() if k != "model"}
    settings["data"] = _data(found)
    return {
        "name": name,
        "settings": [(key, json.dumps(v, ensure_ascii=False)) for key, v in settings.items()],
        "sha256": found["model"].get("sha256", ""),
        "architecture": architecture(name, found),
        "environment": found["run"],
    }


def _island(audits: Sequence[Audited], shown: Shown) -> str:
    """The data of the script."""
    return markup.island(
        {
            "colours": markup.colours(pictures.DIVERGING, _COLOURS),
            "audits": [
                {
                    "name": one.name,
                    "encoding": one.audit["settings"]["encoding"],
                    "gamma": one.audit["settings"]["gamma"],
                }
                for one in audits
            ],
            "images": shown.images,
            "cases": shown.facts,
        }
    )
