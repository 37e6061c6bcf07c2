# SPDX-License-Identifier: Apache-2.0
"""tail-latency: what balancing by weighted random, least connections and latency does to requests.

Open-loop load of short connections through the real agent (tail_bench.cpp says how). The three algorithms run at the
same time, each as a service of its own with backends of its own that are alike, so that a busy machine is busy for all.
The same shapes in simulated time, and more of them: scripts/verify simulate.
"""
import json
import subprocess

import machine
from lab import Agent, BenchError, Lab, find_binary
from results import result

ALGORITHMS = ("weighted_random", "least_connections", "latency")
FIRST_PORT = 20000
PORTS_EACH = 100


def _backends(count, mean_ms, workers, odd=(), odd_ms=None, odd_does=""):
    """Mean service time, workers and behaviour of each backend; those in `odd` are unlike the others."""
    return [(odd_ms if i in odd and odd_ms else mean_ms, workers, odd_does if i in odd else "") for i in range(count)]


def _run(backends, seconds, warm_up, rate=0, clients=0):
    """{algorithm: report}, idle."""
    with Lab() as lab:
        netns = lab.netns("tail")
        services, arguments = [], []
        for number, algorithm in enumerate(ALGORITHMS):
            frontend = f"240.64.1.{number + 1}:80"
            ports = [FIRST_PORT + number * PORTS_EACH + i for i in range(len(backends))]
            services.append({"name": algorithm.replace("_", "-"), "address": frontend, "balance": algorithm,
                             "ejection": "off", "endpoints": [f"10.0.0.1:{port}" for port in ports]})
            spec = "+".join(f"10.0.0.1:{port}/{mean}/{workers}" + (f"/{does}" if does else "")
                            for port, (mean, workers, does) in zip(ports, backends))
            arguments += ["--service", f"{algorithm}={frontend}={spec}"]
        # The servers' ports are not for connections.
        lab.inside(netns, "sysctl", "-qw", "net.ipv4.ip_local_port_range=30000 65000")
        Agent(lab, {"services": services}).start()
        command = [find_binary("tail_bench"), "--netns", netns, "--cgroup", lab.cgroup("app"), "--seconds", seconds,
                   "--warm-up", warm_up, *(["--clients", clients] if clients else ["--rate", rate]), *arguments]
        with machine.Watch() as watch:
            done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
        if done.returncode != 0:
            raise BenchError(f"tail_bench: exit {done.returncode}: {done.stderr.strip()}")
        return {one["name"]: one for one in json.loads(done.stdout)["services"]}, watch.idle


def _tails(title, report, idle, goals):
    """The tail of each, and how many times lower than that of weighted random."""
    random = report["weighted_random"]["p99_ms"]
    for name, one in report.items():
        yield result("tail-latency", f"{title}, {name}, p99", one["p99_ms"], "ms", idle=idle,
                     note=f"p50 {one['p50_ms']:.1f} ms, {one['answered']} answered, {one['failed']} failed",
                     served=one["served"])
    for name in ALGORITHMS[1:]:
        yield result("tail-latency", f"{title}, p99 of weighted_random over {name}", random / report[name]["p99_ms"],
                     "ratio", "weighted_random", goals.get(name, ""), idle)


def _failures(title, report, idle):
    for name, one in report.items():
        share = 100 * one["failed"] / max(1, one["failed"] + one["answered"])
        yield result("tail-latency", f"{title}, {name}, failed connects", share, "%", idle=idle,
                     goal="" if name == "weighted_random" else "<= 1")


def bench_tail_latency(quick):
    seconds, warm_up = (12, 3) if quick else (60, 10)
    report, idle = _run(_backends(10, 20, 16, {3}, 200), seconds, warm_up, rate=200)
    yield from _tails("1 of 10 is 10x slower, no queues", report, idle, {"latency": ">= 3"})
    report, idle = _run(_backends(10, 40, 4, {3}, 400), seconds, warm_up, rate=270)
    yield from _tails("1 of 10 is 10x slower, 30 % load", report, idle, {"latency": ">= 3", "least_connections": ">= 3"})
    # 90 % of 28 x 2 / 100 ms + 4 x 2 / 400 ms.
    report, idle = _run(_backends(32, 100, 2, {3, 11, 19, 27}, 400), seconds, warm_up, rate=522)
    yield from _tails("4 of 32 are 4x slower, 90 % load", report, idle, {"latency": ">= 3"})
    report, idle = _run(_backends(10, 20, 16, {3}, odd_does="refuse"), seconds, warm_up, rate=200)
    yield from _failures("1 of 10 refuses at once, no ejection", report, idle)
    report, idle = _run(_backends(10, 20, 16, {3}, odd_does="hole"), seconds, warm_up, rate=200)
    yield from _failures("1 of 10 never answers, no ejection", report, idle)
    report, idle = _run(_backends(10, 100, 4), seconds, warm_up, clients=200)
    for name, one in report.items():
        yield result("tail-latency", f"200 clients, 10 backends, {name}, swing of open connections", one["swing"],
                     "of mean", goal="" if name == "weighted_random" else "<= 0.5", idle=idle)
