# SPDX-License-Identifier: Apache-2.0
"""feedback: what it costs to know what every connection experienced.

connect+close and request/response with full feedback beside direct; a connection to no service in an attached cgroup;
one outside every attached cgroup, which only meets the tracepoints (measured in short runs with and without an agent,
taking turns); memory with 100,000 connections open; the agent's CPU at 20,000 connections per second.
"""
import json
import statistics
import subprocess
import time

import connect
import machine
import peers
from lab import Agent, BenchError, Lab, end, find_binary
from results import result
from scale import MIB, _cpu_seconds

HELD, RATE, LISTED = 100_000, 20_000, 100_000
HELD_EACH = 10_000  # connections of one process: below what a process may open
VIP_CROWD, VIP_PACED = "240.64.1.1:80", "240.64.1.2:80"
CROWDED = [f"127.0.1.{i}:81" for i in range(1, 5)]  # 60,000 ports each


def _load(lab, netns, cgroup, *arguments):
    """load_bench in a namespace and cgroup; (process, what it printed)."""
    def enter():
        with open(f"{cgroup}/cgroup.procs", "w", encoding="ascii") as procs:
            procs.write("0")

    command = ["nsenter", f"--net={netns}", "--", str(find_binary("load_bench")), *map(str, arguments)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, preexec_fn=enter)
    lab.callback(end, process)
    return process


def _await_ready(process, what):
    if process.stdout.readline().strip() != "ready":
        raise BenchError(f"load_bench {what} did not come up")


def _outside(rounds):
    """Median ratio of connect+close with an agent on the host to without, in a cgroup that no agent is attached to."""
    ratios = []
    client_cpu, server_cpu = connect._cpus()
    with Lab() as lab:
        netns = lab.netns("plain")
        backends = "+".join(peers.BACKENDS)
        target = [{"name": "direct", "to": backends, "netns": netns, "cgroup": lab.cgroup("plain")}]
        agent = Agent(lab, {"services": connect.services()})

        def measure():
            return connect._run("connect", target, [{"at": backends, "netns": netns}], 30, 100, client_cpu,
                                client_cpu)["targets"][0]["median_ns"]

        for _ in range(rounds):
            without = measure()
            agent.start(cpu=server_cpu)
            with_agent = measure()
            agent.process.terminate()
            agent.process.wait(10)
            agent._detach()
            ratios.append(with_agent / ((without + measure()) / 2))
    ratios.sort()
    return statistics.median(ratios), ratios[len(ratios) // 10], ratios[-1 - len(ratios) // 10]


def _crowd(lab, agent, netns, app, count):
    """Opens `count` connections; yields what they take."""
    before = agent.memory()
    crowds = [_load(lab, netns, app, "hold", "--to", VIP_CROWD, "--count", HELD_EACH) for _ in range(count // HELD_EACH)]
    for crowd in crowds:
        _await_ready(crowd, "hold")
    owners = agent.map_use("owner")
    deadline = time.monotonic() + 30
    while owners["used"] < count and time.monotonic() < deadline:
        time.sleep(1)
        owners = agent.map_use("owner")
    after = agent.memory()
    listing, rows = agent.ask(f"/v1/connections?limit={LISTED}")
    shown, total = len(json.loads(rows)["items"]), json.loads(rows)["total"]
    opened = 0
    for crowd in crowds:
        crowd.stdin.close()
        opened += json.loads(crowd.stdout.read())["opened"]
        crowd.wait(60)
    title = f"{count:,} open connections"
    yield result("feedback", f"{title}, records", owners["used"], "records", goal=f"== {opened}")
    yield result("feedback", f"{title}, kernel memory of records", owners["bytes"] / MIB, "MiB")
    yield result("feedback", f"{title}, agent RSS beyond none", (after["rss"] - before["rss"]) / MIB, "MiB")
    yield result("feedback", f"{title}, GET /v1/connections", listing, "s",
                 note=f"{shown:,} rows of {total:,}, {len(rows) / MIB:.1f} MiB")


def _agent_cpu(lab, agent, netns, app, rate, seconds):
    client_cpu, _ = connect._cpus()
    load = _load(lab, netns, app, "paced", "--to", VIP_PACED, "--rate", rate, "--seconds", seconds)
    before = _cpu_seconds(agent.process.pid)
    done = json.loads(load.stdout.read())
    load.wait()
    used = _cpu_seconds(agent.process.pid) - before
    yield result("feedback", f"agent CPU at {rate:,} connections/s ({done['per_second']:,.0f} reached)",
                 100 * used / seconds, "% of a core", goal="<= 10" if done["per_second"] >= 0.95 * rate else "")


def bench_feedback(quick):
    rounds = 60 if quick else 400
    report, idle = connect._measure("connect", False, rounds, 100)
    yield from connect._entries("feedback", report, idle, {
        "meshd with affinity and getpeername and feedback": "<= 1.08", "no service in an attached cgroup": "<= 1.02"},
        "connect+close")
    report, idle = connect._measure("request", False, rounds // 2, 100)
    yield from connect.transfer_entries("feedback", report, idle, "64 B request and answer")
    with machine.Watch() as watch:
        ratio, low, high = _outside(5 if quick else 20)
    yield result("feedback", "connect+close outside every attached cgroup", ratio, "ratio", "no agent on the host",
                 idle=watch.idle, low=low, high=high)
    with Lab() as lab:
        netns, app = lab.netns("plain"), lab.cgroup("app")
        lab.inside(netns, "sysctl", "-qw", "net.core.somaxconn=200000", "net.ipv4.tcp_max_syn_backlog=200000")
        for arguments in (["--at", "+".join(CROWDED)], ["--at", "+".join(peers.BACKENDS), "--accept"]):
            _await_ready(_load(lab, netns, lab.cgroup("plain"), "listen", *arguments), "listen")
        services = [{"name": "crowd", "address": VIP_CROWD, "endpoints": [{"address": one} for one in CROWDED]},
                    {"name": "paced", "address": VIP_PACED, "endpoints": [{"address": one} for one in peers.BACKENDS]}]
        agent = Agent(lab, {"services": services, "agent": {"limits": {"owners": 262144}}})
        agent.start()
        with machine.Watch() as watch:
            entries = [*_crowd(lab, agent, netns, app, HELD // 10 if quick else HELD),
                       *_agent_cpu(lab, agent, netns, app, RATE, 3 if quick else 15)]
        for entry in entries:
            entry["idle"] = watch.idle
            yield entry
