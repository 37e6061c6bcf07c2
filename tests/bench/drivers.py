# SPDX-License-Identifier: Apache-2.0
"""Benchmarks that are a program of their own: run it, take over its results.

A driver prints one JSON object with "results": a list of {name, figure, unit} and where it has them {peer, goal, met,
low, high, note}.
"""
import json
import re
import subprocess

import machine
from lab import ROOT, BenchError, find_binary
from results import result


def _driver(bench, program, quick):
    command = [str(find_binary(program)), "--json"] + (["--quick"] if quick else [])
    with machine.Watch() as watch:
        done = subprocess.run(command, capture_output=True, text=True)
    start = done.stdout.find("{")
    if start < 0:
        raise BenchError(f"{program}: exit {done.returncode}: {done.stderr.strip()[-1000:]}")
    for entry in json.loads(done.stdout[start:])["results"]:
        name, figure, unit = entry.pop("name"), entry.pop("figure"), entry.pop("unit")
        yield result(bench, name, figure, unit, idle=watch.idle, **entry)


def bench_probes(quick):
    yield from _driver("probes", "probe_bench", quick)


def bench_compile(quick):
    yield from _driver("compile", "compile_bench", quick)


def bench_restart(kills):
    """scripts/verify restart: kill -9, upgrade and back under clients that connect in a tight loop."""
    with machine.Watch() as watch:
        done = subprocess.run([str(ROOT / "scripts" / "verify"), "restart", "--kills", str(kills), "--seed", "1"],
                              capture_output=True, text=True)
    text = done.stdout + done.stderr
    attempts = [int(number.replace(",", "")) for number in re.findall(r"([\d,]+) attempts", text)]
    failures = [int(number.replace(",", "")) for number in re.findall(r"([\d,]+) fail", text)]
    if not attempts or not failures:
        raise BenchError(f"scripts/verify restart: exit {done.returncode}: {text.strip()[-1000:]}")
    yield result("restart", f"failed connects over {kills} kills", sum(failures), "connects", goal="== 0",
                 idle=watch.idle, note=f"{sum(attempts):,} attempts")
