# SPDX-License-Identifier: Apache-2.0
"""Benchmarks that are a program of their own: run it, take over its results.

A driver prints one JSON object: its own, with "results": a list of {name, figure, unit} and where it has them {peer,
goal, met, low, high, note}; or Google Benchmark's, of which the CPU time and the counters are taken.
"""
import json
import re
import subprocess

import machine
from lab import ROOT, BenchError, find_binary
from results import result

GOOGLE_BENCHMARK_FIELDS = {"family_index", "per_family_instance_index", "repetitions", "repetition_index", "threads",
                           "iterations", "real_time", "cpu_time"}


def _run(program, *arguments):
    with machine.Watch() as watch:
        done = subprocess.run([str(find_binary(program)), *arguments], capture_output=True, text=True)
    start = done.stdout.find("{")
    if start < 0:
        raise BenchError(f"{program}: exit {done.returncode}: {done.stderr.strip()[-1000:]}")
    return json.loads(done.stdout[start:]), watch.idle


def bench_probes(quick):
    report, idle = _run("probe_bench", "--json", *(["--quick"] if quick else []))
    for entry in report["results"]:
        name, figure, unit = entry.pop("name"), entry.pop("figure"), entry.pop("unit")
        yield result("probes", name, figure, unit, idle=idle, **entry)


def bench_drain(quick):
    report, idle = _run("drain_bench", *(["--connections", "2000"] if quick else []))
    for entry in report["results"]:
        name, figure, unit = entry.pop("name"), entry.pop("figure"), entry.pop("unit")
        yield result("drain", name, figure, unit, idle=idle, **entry)


def bench_compile(quick):
    report, idle = _run("compile_bench", "--benchmark_format=json",
                        f"--benchmark_min_time={0.05 if quick else 0.5}")
    for entry in report["benchmarks"]:
        if entry.get("error_occurred"):
            yield result("compile", entry["name"], None, "", idle=idle, note=entry.get("error_message", ""), met=False)
            continue
        yield result("compile", entry["name"], entry["cpu_time"], entry["time_unit"], idle=idle)
        for counter in entry.keys() - GOOGLE_BENCHMARK_FIELDS:
            if isinstance(entry[counter], float):
                what, _, unit = counter.rpartition("_")
                yield result("compile", f"{entry['name']}, {what or counter}", entry[counter], unit, idle=idle)


def bench_restart(kills):
    """scripts/verify restart: kill -9, upgrade and back under clients that connect in a tight loop."""
    with machine.Watch() as watch:
        done = subprocess.run([str(ROOT / "scripts" / "verify"), "restart", "--kills", str(kills), "--seed", "1"],
                              capture_output=True, text=True)
    summary = re.search(r"(\d+) attempts, (\d+) failures, (\d+) faults", done.stdout)
    if not summary:
        raise BenchError(f"scripts/verify restart: exit {done.returncode}: {(done.stdout + done.stderr).strip()[-1000:]}")
    attempts, failures, faults = map(int, summary.groups())
    yield result("restart", f"failed connects over {kills} kills", failures, "connects", goal="== 0", idle=watch.idle,
                 note=f"{attempts:,} attempts")
    yield result("restart", f"ids or tables that changed over {kills} kills", faults, "faults", goal="== 0",
                 idle=watch.idle)
