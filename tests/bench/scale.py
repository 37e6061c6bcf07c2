# SPDX-License-Identifier: Apache-2.0
"""scale: many services from files. How long until they are in force, what they weigh, how fast a change goes through.

"In force" is what an application sees: the time from starting the process until connect() to the first service of the
last file is answered by its backend.
"""
import contextlib
import json
import os
import pathlib
import socket
import subprocess
import threading
import time

import machine
from lab import Agent, BenchError, Lab, enter_netns, find_binary
from results import result

OPEN_PORT = 19001  # where the measured services' backend listens; see scale_bench.cpp
MIB = 1024 * 1024


class Backend(threading.Thread):
    """Accepts at OPEN_PORT in a namespace until closed."""

    def __init__(self, netns):
        super().__init__(daemon=True)
        ready = threading.Event()
        self._netns, self._ready = netns, ready
        self.start()
        ready.wait(5)

    def run(self):
        enter_netns(self._netns)  # only this thread
        self.listener = socket.create_server(("127.0.0.1", OPEN_PORT), backlog=4096)
        self._ready.set()
        while True:
            try:
                self.listener.accept()[0].close()
            except OSError:
                return

    def close(self):
        """Frees the port; may be called again."""
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


def _vip(service):
    return f"240.{64 + (service >> 16)}.{(service >> 8) & 255}.{service & 255}"


def _await_effective(netns, cgroup, vip, begin, timeout, answer):
    """In a child of its own (a cgroup is a property of a process): connects until a backend answers."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        pathlib.Path(cgroup, "cgroup.procs").write_text("0")
        enter_netns(netns)
        while time.monotonic() - begin < timeout:
            with socket.socket() as attempt:
                attempt.settimeout(1)
                if attempt.connect_ex((vip, 80)) == 0:
                    os.write(answer, json.dumps(time.monotonic() - begin).encode())
                    code = 0
                    break
            time.sleep(0.001)
    finally:
        os._exit(code)


def _load(lab, folder, files, services, endpoints, limits=None, timeout=120):
    """Generates, starts, waits; (agent, seconds until READY, seconds until in force, bytes of the files)."""
    folder.mkdir()
    subprocess.run([str(find_binary("scale_bench")), "generate", "--folder", str(folder), "--files", str(files),
                    "--services", str(services), "--endpoints", str(endpoints)], check=True)
    size = sum(path.stat().st_size for path in folder.iterdir())
    watched = str(folder) if files > 1 else str(next(folder.iterdir()))
    config = {"files": [watched]}
    if limits:
        config["agent"] = {"limits": limits}
    agent = Agent(lab, config)
    netns = lab.netns("plain")
    backend = Backend(netns)
    lab.callback(backend.close)
    reader, writer = os.pipe()
    last = services - services // files
    begin = time.monotonic()
    child = _await_effective(netns, lab.cgroup("app"), _vip(last), begin, timeout, writer)
    os.close(writer)
    try:
        ready = agent.start(timeout=timeout)
        with os.fdopen(reader, "rb") as answer:
            text = answer.read()
    finally:
        os.waitpid(child, 0)
    if not text:
        raise BenchError(f"connect() to {_vip(last)} was not answered within {timeout} s")
    backend.close()
    return agent, ready, json.loads(text), size


def _settle(agent, seconds):
    """Memory after nothing happened for some seconds."""
    time.sleep(seconds)
    return agent.memory()


def _cold_load(files, services, endpoints, goal_s, goal_mib, limits=None, settle=5):
    title = f"{services:,} x {endpoints} from {files} file{'s' if files > 1 else ''}"
    with Lab() as lab, machine.Watch() as watch:
        agent, ready, effective, size = _load(lab, lab.folder / "services", files, services, endpoints, limits)
        memory = _settle(agent, settle)
        scrape, page = agent.ask("/metrics")
    idle = watch.idle
    yield result("scale", f"cold load, {title}", effective, "s", goal=goal_s, idle=idle,
                 note=f"{size / MIB:.1f} MiB of JSON; READY after {ready:.2f} s")
    # Pages of kernel tables that the agent has mapped are counted as its own by the kernel; they are the maps below.
    tables = f"without {memory['mapped'] / MIB:.1f} MiB of mapped kernel tables"
    yield result("scale", f"settled RSS, {title}", (memory["rss"] - memory["mapped"]) / MIB, "MiB", goal=goal_mib,
                 idle=idle, note=tables)
    yield result("scale", f"peak RSS, {title}", (memory["peak"] - memory["mapped"]) / MIB, "MiB", idle=idle, note=tables)
    yield result("scale", f"one scrape of /metrics, {title}", scrape, "s", idle=idle,
                 note=f"{len(page) / MIB:.1f} MiB, after the memory was read")
    yield result("scale", f"kernel memory of maps, {title}", memory["maps"] / MIB, "MiB", idle=idle)


def _changes(files, services, endpoints, changes, rate):
    title = f"{rate} changes/s over {services:,} x {endpoints} in {files} files"
    with Lab() as lab:
        folder = lab.folder / "services"
        agent, _, _, _ = _load(lab, folder, files, services, endpoints)
        time.sleep(2)
        machine.require_stats_off()
        with machine.Watch() as watch:
            before = _cpu_seconds(agent.process.pid)
            begin = time.monotonic()
            done = _change_driver(lab, folder, files, services, endpoints, changes, rate)
            used = (_cpu_seconds(agent.process.pid) - before) / (time.monotonic() - begin)
        memory = agent.memory()
    measured = json.loads(done.stdout) if done.stdout.strip() else None
    if measured is None or "median_ms" not in measured:
        raise BenchError(f"scale_bench change: exit {done.returncode}: {done.stderr.strip()} {done.stdout.strip()}")
    note = f"{measured['lost']} of {measured['changes']} lost" if measured["lost"] else ""
    reached = f"{measured['rate']:.0f} changes/s reached" + (f"; {note}" if note else "")
    yield result("scale", f"file event to connect(), median, {title}", measured["median_ms"], "ms", goal="<= 2",
                 idle=watch.idle, note=reached, histogram=measured["histogram"])
    yield result("scale", f"file event to connect(), p99, {title}", measured["p99_ms"], "ms", goal="<= 10",
                 idle=watch.idle, note=note)
    yield result("scale", f"file event to connect(), worst, {title}", measured["max_ms"], "ms", idle=watch.idle)
    yield result("scale", f"changes lost, {title}", measured["lost"], "changes", goal="== 0", idle=watch.idle)
    yield result("scale", f"agent's CPU, {title}", used * 100, "% of a core", idle=watch.idle)
    yield result("scale", f"RSS after it, {title}", (memory["rss"] - memory["mapped"]) / MIB, "MiB", idle=watch.idle)


def _change_driver(lab, folder, files, services, endpoints, changes, rate):
    def enter():
        pathlib.Path(lab.cgroup("app"), "cgroup.procs").write_text("0")
        enter_netns(lab.netns("plain"))

    return subprocess.run([str(find_binary("scale_bench")), "change", "--folder", str(folder), "--files", str(files),
                           "--services", str(services), "--endpoints", str(endpoints), "--changes", str(changes),
                           "--rate", str(rate)], capture_output=True, text=True, preexec_fn=enter)


def _cpu_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def bench_scale(quick):
    services, endpoints = 10000, 10
    for files in (1, 100):
        yield from _cold_load(files, services, endpoints, "<= 1.0", "<= 64.0")
    yield from _changes(100, services, endpoints, 300 if quick else 3000, 100)
    if not quick:
        # Ten times as many, with larger maps: reported, no goal.
        limits = {"services": 131072, "ranges": 262144, "slots": 16777216, "backends": 2097152}
        yield from _cold_load(100, 10 * services, endpoints, "", "", limits, settle=10)
