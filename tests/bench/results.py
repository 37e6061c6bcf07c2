# SPDX-License-Identifier: Apache-2.0
"""One result = one line of docs/benchmarks.md.

  bench, name      what was measured; together unique in a run
  figure, unit     the number; unit "ratio" means: divided by the peer
  peer             what it is compared with, or ""
  goal, met        "<= 1.05" and True, False, or None where there is no goal or the run is inconclusive
  low, high        95 % interval of the figure, where there is one
  idle             whether the machine was
  note             what a reader must know ("INCONCLUSIVE: ...")
"""
import math
import operator

COMPARE = {"<=": operator.le, ">=": operator.ge, "==": operator.eq}


def result(bench, name, figure, unit, peer="", goal="", idle=None, low=None, high=None, note="", met=None, **details):
    if goal and met is None and figure is not None and not note.startswith("INCONCLUSIVE"):
        sign, bound = goal.split()[:2]
        met = COMPARE[sign](figure, float(bound))
    return {"bench": bench, "name": name, "figure": figure, "unit": unit, "peer": peer, "goal": goal, "met": met,
            "low": low, "high": high, "idle": idle, "note": note, **({"details": details} if details else {})}


def median_interval(values):
    """What holds the median of whatever `values` (six at least) are a sample of, in 95 % of all cases: two of them."""
    values = sorted(values)
    rank, outside = 0, 0.5 ** len(values)  # of the lowest; the chance that the median is below it
    while True:
        further = outside + math.comb(len(values), rank + 1) * 0.5 ** len(values)
        if 2 * further > 0.05:
            return values[rank], values[-1 - rank]
        rank, outside = rank + 1, further


def number(value):
    if value is None:
        return "-"
    if isinstance(value, int) or value == int(value) and abs(value) >= 1000:
        return f"{int(value):,}"
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def verdict(entry):
    if entry["note"].startswith("INCONCLUSIVE"):
        return "inconclusive"
    return {True: "yes", False: "NO", None: ""}[entry["met"]]


def line(entry):
    interval = f" ({number(entry['low'])} - {number(entry['high'])})" if entry["low"] is not None else ""
    peer = f" vs {entry['peer']}" if entry["peer"] else ""
    goal = f"  goal {entry['goal']}: {verdict(entry)}" if entry["goal"] else ""
    idle = "" if entry["idle"] else "  [machine busy]"
    note = f"  {entry['note']}" if entry["note"] else ""
    return f"{entry['bench']:9} {entry['name']:44} {number(entry['figure']):>9} {entry['unit']}{interval}{peer}{goal}{idle}{note}"


def markdown(report):
    """The tables of docs/benchmarks.md: {bench: section}. Each says itself when and where it was measured."""
    machine = report["machine"]
    measured = (f"Measured {machine['date']} on {machine['cpus']} CPUs of {machine['cpu']}, {machine['memory_gib']} GiB, "
                f"Linux {machine['kernel']} ({machine['architecture']}), {machine['system']}, meshd {machine['version']}.")
    sections = {}
    for bench in dict.fromkeys(entry["bench"] for entry in report["results"]):
        entries = [entry for entry in report["results"] if entry["bench"] == bench]
        out = [f"### {bench}", measured, "", "| what | figure | 95 % interval | compared with | goal | met | machine idle |",
               "|---|---:|---|---|---|---|---|"]
        for entry in entries:
            interval = f"{number(entry['low'])} - {number(entry['high'])}" if entry["low"] is not None else ""
            note = f" ({entry['note']})" if entry["note"] else ""
            out.append(f"| {entry['name']}{note} | {number(entry['figure'])} {entry['unit']} | {interval} | "
                       f"{entry['peer']} | {entry['goal']} | {verdict(entry)} | {'yes' if entry['idle'] else 'no'} |")
        out.append("")
        for entry in entries:
            if "histogram" in entry.get("details", {}):
                out += [f"Histogram of {entry['name']}:", "", "```", *entry["details"]["histogram"], "```", ""]
        sections[bench] = "\n".join(out)
    return sections
