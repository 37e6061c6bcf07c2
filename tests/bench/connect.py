# SPDX-License-Identifier: Apache-2.0
"""connect and transfer: what it costs an application to reach a backend through meshd, beside the other ways.

All targets run interleaved in one go (connect_bench.cpp says how and why). Modes:
  connect   socket, connect, close; the server, on the same CPU, accepts and closes
  bare      socket, connect, close with reset, while nobody accepts: the least that a connect() can cost
  exchange  connect, one byte there and back, close, everything on one CPU: what all parties cost together
  request   64 bytes there and back on one connection, on one CPU
  bulk      64 KiB writes, client and server on one CPU each
"""
import json
import os
import statistics
import subprocess

import machine
import peers
from lab import Agent, BenchError, Lab, find_binary
from results import median_interval, result

VIP = "240.64.0.10:80"
VIP_AFFINITY = "240.64.0.11:80"
VIP_FEEDBACK = "240.64.0.12:80"


def services():
    endpoints = [{"address": address} for address in peers.BACKENDS]
    return [{"name": "orders", "address": VIP, "feedback": False, "endpoints": endpoints},
            {"name": "carts", "address": VIP_AFFINITY, "feedback": False, "affinity_timeout": "1h",
             "endpoints": endpoints},
            {"name": "watched", "address": VIP_FEEDBACK, "affinity_timeout": "1h", "endpoints": endpoints}]


def _cpus():
    """(client, server): the two first CPUs we may use, or the only one twice."""
    allowed = sorted(os.sched_getaffinity(0))
    return allowed[0], allowed[-1] if len(allowed) == 1 else allowed[1]


def _run(mode, targets, servers, rounds, block, client_cpu, server_cpu):
    command = [find_binary("connect_bench"), "--mode", mode, "--rounds", rounds, "--block", block,
               "--client-cpu", client_cpu, "--server-cpu", server_cpu]
    for target in targets:
        command += ["--target", ",".join(f"{key}={value}" for key, value in target.items())]
    for server in servers:
        command += ["--server", ",".join(f"{key}={value}" for key, value in server.items())]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode not in (0, 1) or not done.stdout.strip():
        raise BenchError(f"connect_bench: exit {done.returncode}: {done.stderr.strip()}")
    return json.loads(done.stdout)


SETUPS = 7
SETUPS_BULK = 25  # its connections last as long as a set-up, and no two are equally fast
CONTROL_SPREAD = 0.02


def _measure(mode, with_peers, rounds, block, setups=SETUPS):
    """
    The same interleaved run in fresh set-ups, because where a table, a program or a connection lies in memory moves a
    ratio by more than the noise within a run. A target's ratio is the median of the runs' ratios.
    """
    runs = [_measure_once(mode, with_peers, rounds, block) for _ in range(setups)]
    targets = []
    for same in zip(*(report["targets"] for report, _ in runs)):
        ratios = [one["ratio"] for one in same]
        low, high = median_interval(ratios)
        targets.append({**same[0], "ratio": statistics.median(ratios), "ratio_low": low, "ratio_high": high,
                        "median_ns": statistics.median(one["median_ns"] for one in same),
                        "failed": sum(one["failed"] for one in same),
                        "last_errno": max(one["last_errno"] for one in same)})
    control = next(target for target in targets if target["name"] == "control")
    conclusive = max(control["ratio_high"] - 1, 1 - control["ratio_low"]) <= CONTROL_SPREAD
    return {"targets": targets, "conclusive": conclusive}, all(idle for _, idle in runs)


def _measure_once(mode, with_peers, rounds, block):
    """One interleaved run: connect_bench's report, and whether the machine was idle."""
    client_cpu, other_cpu = _cpus()
    # Where proxies do work for the client, all share a CPU: the time of a block is then the work of all of them.
    server_cpu = other_cpu if mode in ("bare", "bulk") else client_cpu
    with Lab() as lab:
        netns = lab.netns("plain")
        backends = "+".join(peers.BACKENDS)
        plain, attached = lab.cgroup("plain"), lab.cgroup("app")
        servers = [{"at": backends, "netns": netns}]
        direct = {"to": backends, "netns": netns, "cgroup": plain}
        mesh = {"netns": netns, "cgroup": attached, "baseline": "direct"}
        targets = [{"name": "direct", **direct}, {"name": "control", "baseline": "direct", **direct},
                   {"name": "meshd", "to": VIP, **mesh}]
        if mode in ("request", "bulk"):
            targets.append({"name": "meshd with feedback", "to": VIP_FEEDBACK, **mesh})
        if mode in ("connect", "bare"):
            targets += [
                {"name": "direct and getpeername", "getpeername": 1, **direct},
                {"name": "meshd with affinity and getpeername", "to": VIP_AFFINITY, "getpeername": 1, **mesh,
                 "baseline": "direct and getpeername"},
                {"name": "meshd with affinity and getpeername and feedback", "to": VIP_FEEDBACK, "getpeername": 1, **mesh,
                 "baseline": "direct and getpeername"},
                {"name": "no service in an attached cgroup", "to": backends, **mesh}]
        if with_peers:
            nat = lab.netns("nat")
            vip = peers.kube_proxy_nft(lab, nat)
            servers.append({"at": backends, "netns": nat})
            targets.append({"name": "nftables DNAT as kube-proxy", "to": vip, "netns": nat, "cgroup": plain,
                            "baseline": "direct"})
            settle = {"settle_ms": 5} if mode == "bare" else {}
            for name, start in (("HAProxy TCP", peers.haproxy), ("nginx stream", peers.nginx)):
                at = start(lab, netns, server_cpu)
                targets.append({"name": name, "to": at, "netns": netns, "cgroup": plain, "baseline": "direct", **settle})
            peers.wait_listening(lab, netns, peers.HAPROXY_AT, peers.NGINX_AT)
        Agent(lab, {"services": services()}).start(cpu=other_cpu)
        machine.require_stats_off()
        with machine.Watch() as watch:
            report = _run(mode, targets, servers, rounds, block, client_cpu, server_cpu)
        machine.require_stats_off()
    return report, watch.idle


def _entries(bench, report, idle, goals, title):
    found = {target["name"]: target for target in report["targets"]}
    control = found["control"]
    note = "" if report["conclusive"] else (
        f"INCONCLUSIVE: direct against direct was {control['ratio_low']:.3f} - {control['ratio_high']:.3f}")
    yield result(bench, f"{title}, direct", found["direct"]["median_ns"] / 1000, "us", idle=idle)
    for name, target in found.items():
        if target["failed"]:
            yield result(bench, f"{title}, {name}", None, "ratio", target["baseline"], goals.get(name, ""), idle,
                         note=f"{target['failed']} failed, errno {target['last_errno']}", met=False)
        elif target["baseline"] != name:
            yield result(bench, f"{title}, {name}", target["ratio"], "ratio", target["baseline"],
                         goals.get(name, ""), idle, target["ratio_low"], target["ratio_high"], note,
                         median_ns=target["median_ns"])


def bench_connect(rounds=400):
    peers.require_peers()
    report, idle = _measure("connect", True, rounds, 100)
    yield from _entries("connect", report, idle, {
        "meshd": "<= 1.05", "meshd with affinity and getpeername": "<= 1.05",
        "meshd with affinity and getpeername and feedback": "<= 1.08", "no service in an attached cgroup": "<= 1.02",
    }, "connect+close")
    report, idle = _measure("exchange", True, max(30, rounds // 4), 100)
    yield from _entries("connect", report, idle, {}, "connect+1 byte+close")
    report, idle = _measure("bare", False, rounds, 100)
    yield from _entries("connect", report, idle, {}, "least connect")


def transfer_entries(bench, report, idle, title):
    for entry in _entries(bench, report, idle, {}, title):
        if "meshd" in entry["name"] and entry["figure"] is not None:
            # "Within noise": the interval holds 1, or reaches as near to it as direct against direct does.
            control = next(t for t in report["targets"] if t["name"] == "control")
            noise = max(control["ratio_high"] - 1, 1 - control["ratio_low"], 0.01)
            entry["goal"] = "1.00 within noise"
            if not entry["note"]:
                entry["met"] = entry["low"] <= 1 + noise and entry["high"] >= 1 - noise
        yield entry


def bench_transfer(rounds=200):
    report, idle = _measure("request", False, rounds, 100)
    yield from transfer_entries("transfer", report, idle, "64 B request and answer")
    report, idle = _measure("bulk", False, max(30, rounds * SETUPS // SETUPS_BULK), 100, SETUPS_BULK)
    yield from transfer_entries("transfer", report, idle, "bulk, 64 KiB writes")
