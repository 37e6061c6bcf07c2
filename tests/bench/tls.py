# SPDX-License-Identifier: Apache-2.0
"""tls: meshd relay, HAProxy and nginx (stream, ssl) in turns, with one worker and with two.

Handshakes per second: full ones (TLS 1.3; ECDSA P-256, RSA-2048, ECDSA with a client's certificate) and resumed ones
(TLS 1.2 and 1.3); requests per second on kept-alive connections (1 KiB); bulk transfer; latency that is added to
requests one at a time; memory of idle connections.

wrk, tls_load_bench and the backend (nginx) take more CPU time than a terminator does, so with few CPUs a rate says how
fast *they* are. What is compared is therefore what each terminator does in a second of its own CPU time: its rate where
it is what everybody waits for. Beside it stand the rates that were reached, the terminator's CPU time for each
operation, how busy it was, and the CPU time for each operation of load and backend.
"""
import json
import os
import pathlib
import re
import resource
import shutil
import statistics
import subprocess
import time

import machine
import peers
import tls_peers
from lab import BenchError, Lab, find_binary
from results import result
from tls_peers import BACKEND, CONNECTIONS, PEERS, PORTS

IDLE = min(10_000, CONNECTIONS - 500)


class Place:
    """Where load comes from: the CPUs that terminators leave, or all if they leave none."""

    def __init__(self, lab, workers, quick):
        cpus = sorted(os.sched_getaffinity(0))
        self.workers = workers
        self.seconds = 1 if quick else 3
        self.folder = lab.folder
        self.netns = lab.netns("tls")
        self.cpus = set(cpus[:workers])
        self.load = set(cpus[workers:]) or set(cpus)
        tls_peers.certificates(lab.folder)
        self.backend = tls_peers.start_backend(lab, self.netns, self.load)
        self.processes = tls_peers.start_peers(lab, self.netns, workers, self.cpus)
        peers.wait_listening(lab, self.netns, BACKEND, *(f":{port}" for port in PORTS.values()))

    def inside(self, *command):
        done = subprocess.run(["nsenter", f"--net={self.netns}", "--", "taskset", "-c",
                               ",".join(map(str, sorted(self.load))), *map(str, command)],
                              capture_output=True, text=True, timeout=self.seconds + 60)
        if done.returncode != 0:
            raise BenchError(f"{' '.join(map(str, command))}: exit {done.returncode}: {(done.stdout + done.stderr).strip()[-500:]}")
        return done.stdout + done.stderr


def _wrk(place, url, connections):
    text = place.inside("wrk", "-t", 1, "-c", connections, "-d", f"{place.seconds}s", "--latency", url)
    seconds = re.search(r"requests in ([\d.]+)s, ([\d.]+)([KMG]?)B read", text)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", text)
    errors = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text)
    if not rate or not seconds or (errors and (int(errors.group(1)) or int(errors.group(4)))):
        raise BenchError(f"wrk {url}: {text.strip()[-500:]}")
    took = float(seconds.group(1))
    latency = {int(percent): float(value) * {"us": 1, "ms": 1e3, "s": 1e6}[unit]
               for percent, value, unit in re.findall(r"(50|99)%\s+([\d.]+)(us|ms|s)", text)}
    return {"done": float(rate.group(1)) * took, "seconds": took, "latency": latency,
            "bytes": float(seconds.group(2)) * {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}[seconds.group(3)]}


def _requests(place, peer):
    return _wrk(place, f"https://10.0.0.1:{PORTS[peer, 'ecdsa']}/1k", 64)


def _bulk(place, peer):
    measured = _wrk(place, f"https://10.0.0.1:{PORTS[peer, 'ecdsa']}/bulk", 4)
    return {**measured, "done": measured["bytes"] * 8 / 1e9}


def _handshakes(kind, *options):
    def measure(place, peer):
        shown = ("--certificate", place.folder / "client.crt", "--key", place.folder / "client.key") if kind == "mutual" else ()
        return json.loads(place.inside(find_binary("tls_load_bench"), "--address", f"10.0.0.1:{PORTS[peer, kind]}",
                                       "--seconds", place.seconds, *options, *shown))
    return measure


MEASURES = {
    "full handshakes, ECDSA P-256": ("/s", _handshakes("ecdsa")),
    "full handshakes, RSA-2048": ("/s", _handshakes("rsa")),
    "mutual handshakes, ECDSA P-256": ("/s", _handshakes("mutual")),
    "resumed handshakes, TLS 1.2": ("/s", _handshakes("ecdsa", "--resume", "--tls12")),
    "resumed handshakes, TLS 1.3": ("/s", _handshakes("ecdsa", "--resume")),
    "requests of 1 KiB, kept alive": ("/s", _requests),
    "bulk": ("Gbit/s", _bulk),
}


def _load_cpu_seconds(place):
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime + tls_peers.cpu_seconds(place.backend)


def _account(place, peer, measure):
    """One turn: operations per second, and per second of the terminator's CPU; CPU seconds of both for each."""
    load, own = _load_cpu_seconds(place), tls_peers.cpu_seconds(place.processes[peer])
    measured = measure(place, peer)
    own = max(tls_peers.cpu_seconds(place.processes[peer]) - own, 1 / tls_peers.TICKS)
    return {"rate": measured["done"] / measured["seconds"], "capacity": measured["done"] / own,
            "cost": own / measured["done"], "busy": own / measured["seconds"] / place.workers,
            "load": (_load_cpu_seconds(place) - load) / measured["done"]}


def _turns(rounds, names):
    """Each once a round, in an order that goes round: none is always the first."""
    for turn in range(rounds):
        yield names[turn % len(names):] + names[:turn % len(names)]


def _suffix(workers):
    return f", {workers} worker{'s' if workers > 1 else ''}"


def _throughput(place, rounds):
    for name, (unit, measure) in MEASURES.items():
        turns = {peer: [] for peer in PEERS}
        for order in _turns(rounds, PEERS):
            for peer in order:
                turns[peer].append(_account(place, peer, measure))
        median = {peer: {key: statistics.median(turn[key] for turn in turns[peer]) for key in turns[peer][0]} for peer in PEERS}
        best = max(("haproxy", "nginx"), key=lambda peer: median[peer]["capacity"])
        ratios = sorted(a["capacity"] / b["capacity"] for a, b in zip(turns["meshd"], turns[best]))
        note = "; ".join(f"{peer} {of['rate']:,.{0 if unit == '/s' else 1}f} {unit} at {of['cost'] * 1e6:,.0f} us, busy {of['busy'] * 100:.0f} %, load "
                         f"{of['load'] * 1e6:,.0f} us" for peer, of in median.items())
        yield result("tls", name + _suffix(place.workers), median["meshd"]["capacity"] / median[best]["capacity"], "ratio",
                     peer=best, goal=">= 1.2", low=ratios[0], high=ratios[-1], note=note)


def _added_latency(place, rounds):
    """Of requests on one kept-alive connection, one at a time, beyond those on a plain connection to the backend."""
    turns = []
    urls = {"direct": f"http://{BACKEND}/1k", **{peer: f"https://10.0.0.1:{PORTS[peer, 'ecdsa']}/1k" for peer in PEERS}}
    for order in _turns(rounds, tuple(urls)):
        turns.append({who: _wrk(place, urls[who], 1)["latency"] for who in order})
    for percent in (50, 99):
        added = {peer: statistics.median(turn[peer][percent] - turn["direct"][percent] for turn in turns) for peer in PEERS}
        direct = statistics.median(turn["direct"][percent] for turn in turns)
        best = min(("haproxy", "nginx"), key=lambda peer: added[peer])
        note = f"direct {direct:,.0f} us; " + ", ".join(f"{peer} + {added[peer]:,.0f} us" for peer in PEERS)
        if min(added.values()) <= 0:
            note = "INCONCLUSIVE: the machine adds more than they do; " + note
        yield result("tls", f"added latency, p{percent}" + _suffix(place.workers), added["meshd"] / max(added[best], 1), "ratio",
                     peer=best, goal="<= 0.83", note=note)


def _idle_memory(place, peer, count):
    """Bytes of an idle connection. The client is a program of this file's neighbour: many sessions of OpenSSL."""
    before = tls_peers.memory(place.processes[peer])
    holder = subprocess.Popen(["nsenter", f"--net={place.netns}", "--", "taskset", "-c", ",".join(map(str, sorted(place.load))),
                               "python3", str(pathlib.Path(__file__).with_name("tls_hold.py")), "10.0.0.1",
                               str(PORTS[peer, "ecdsa"]), str(count)],
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        if holder.stdout.readline().strip() != "ready":
            raise BenchError(f"could not hold {count} connections at {peer}")
        time.sleep(2)
        return (tls_peers.memory(place.processes[peer]) - before) / count
    finally:
        holder.stdin.close()
        holder.wait(60)


def _memory(place, count):
    bytes_of = {peer: _idle_memory(place, peer, count) for peer in PEERS}
    best = min(("haproxy", "nginx"), key=lambda peer: bytes_of[peer])
    return result("tls", f"memory of an idle connection, of {count:,}" + _suffix(place.workers), bytes_of["meshd"] / bytes_of[best],
                  "ratio", peer=best, goal="<= 0.8", note=", ".join(f"{peer} {bytes_of[peer] / 1024:.1f} KiB" for peer in PEERS))


def bench_tls(quick):
    peers.require_peers()
    if not shutil.which("wrk"):
        raise BenchError("missing wrk; run: sudo scripts/setup --bench")
    if len(os.sched_getaffinity(0)) < 2:
        raise BenchError("needs two CPUs: one for the terminator, one for load and backend")
    rounds = 2 if quick else 5
    out = []
    with machine.Watch() as watch:
        for workers in (1, 2):
            with Lab() as lab:
                place = Place(lab, workers, quick)
                # Memory first: afterwards, allocators have room that nobody knows of.
                out.append(_memory(place, IDLE // (10 if quick else 1)))
                out += _throughput(place, rounds)
                out += _added_latency(place, rounds)
    for entry in out:
        entry["idle"] = watch.idle
    return out
