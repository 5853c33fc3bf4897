"""A study's table as plain values: table.csv and table.json."""

import csv
import io
import json
from statistics import fmean, stdev

from study.analysis import Analysis, Comparison
from study.inference import percent
from study.study import Study


def table_of(analysis: Analysis, costs: dict[str, dict]) -> list[dict]:
    """One flat dict per row. Changes and slopes are shares: 0.18 for 18 % more."""
    table = []
    for line in analysis.lines:
        cost, flatness, share = costs.get(line.row.label, {}), line.flatness, line.share
        table.append(
            {
                "row": line.row.label,
                "asked": line.asked,
                "runs": len(line.records),
                "failed": len(line.failures),
                "converged": line.converged,
                "share_low": share and share[0],
                "share_high": share and share[1],
                "final_mean": _mean(line.values),
                "final_std": _std(line.values),
                "best_mean": _mean(line.best),
                "best_std": _std(line.best),
                "inception_like_mean": _mean(line.inception_like),
                "inception_like_std": _std(line.inception_like),
                **_change(line.comparison),
                "slope": flatness and percent(flatness.change.estimate),
                "slope_low": flatness and _percent(flatness.change.low),
                "slope_high": flatness and _percent(flatness.change.high),
                "curve": flatness and flatness.word,
                **{key: line.model.get(key) for key in ("parameters", "macs", "step_macs", "executed_macs", "executed_step_macs")},
                **{key: cost.get(key) for key in ("ms_per_step", "images_per_s", "peak_bytes")},
                **{
                    key: value
                    for name, mean in line.instruments.items()
                    for key, value in ((name, mean.estimate), (f"{name}_low", mean.low), (f"{name}_high", mean.high))
                },
            }
        )
    return table


def _change(c: Comparison | None) -> dict:
    return {
        "against": c and c.against,
        "change": c and percent(c.difference.estimate),
        "change_low": c and _percent(c.difference.low),
        "change_high": c and _percent(c.difference.high),
        "verdict": c and (c.word or "not resolved"),
        "more_seeds": c and c.more,
    }


def _percent(value: float | None) -> float | None:
    return None if value is None else percent(value)


def _mean(values: dict[int, float]) -> float | None:
    return fmean(values.values()) if values else None


def _std(values: dict[int, float]) -> float | None:
    return stdev(values.values()) if len(values) > 1 else None


FORMULA = ("=", "+", "-", "@", "\t", "\r")  # how a cell begins that spreadsheets compute


def to_csv(table: list[dict]) -> str:
    """As CSV. A text that a spreadsheet would take for a formula has an apostrophe before it, as spreadsheets mark what is none."""
    columns = list(dict.fromkeys(key for row in table for key in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: _no_formula(value) for key, value in row.items()} for row in table)
    return text.getvalue()


def _no_formula(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value


def to_json(study: Study, analysis: Analysis, table: list[dict], costs: dict) -> str:
    """table.json: the study, its table, declared contrasts, and each run's scores with their cards."""
    contrasts = [{"row": c.row, **_change(c), "p": c.difference.p} for c in analysis.contrasts]
    groups = {name: {"deviation": g.deviation, "freedom": g.freedom} for name, g in analysis.groups.items() if g.freedom}
    runs = [{k: r[k] for k in r if k not in ("config", "curve")} for r in analysis.records]
    found = {"study": study.dump(), "table": table, "contrasts": contrasts, "groups": groups, "costs": costs, "runs": runs}
    return json.dumps(found, indent=1) + "\n"
