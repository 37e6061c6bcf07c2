# SPDX-License-Identifier: Apache-2.0
"""ejection: what clients notice of two bad backends out of ten, one that refuses and one that swallows packets.

Open-loop clients (each connect at its time, whatever became of those before) in an attached cgroup; the agent as it is
out of the box, once with ejection off and once with it on. Run by itself this file is that client.
"""
import asyncio
import datetime
import json
import os
import pathlib
import socket
import subprocess
import sys
import time

RATE, PATIENCE = 200, 1.5  # connects per second; seconds until a client gives up: the first packet is repeated by then
VIP = "240.64.2.1:80"
GOOD = [f"127.0.2.{i}" for i in range(1, 9)]
REFUSES, SWALLOWS, PORT = "127.0.2.9", "10.99.0.9", 7000


async def _connect(address, log, at):
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setblocking(False)
    try:
        await asyncio.wait_for(asyncio.get_running_loop().sock_connect(sock, address), PATIENCE)
        log.append((at, 1))
    except (OSError, asyncio.TimeoutError):
        log.append((at, 0))
    finally:
        sock.close()


async def _client(host, port, seconds):
    """[[unix time, established], ...] of each connect."""
    log, begin, tasks = [], time.time(), set()
    for number in range(int(RATE * seconds)):
        due = begin + number / RATE
        await asyncio.sleep(max(0, due - time.time()))
        tasks.add(task := asyncio.ensure_future(_connect((host, port), log, time.time())))
        task.add_done_callback(tasks.discard)
    await asyncio.gather(*tasks)
    return log


async def _serve(addresses):
    async def answer(_, writer):
        writer.close()
    servers = [await asyncio.start_server(answer, address, PORT, backlog=4096) for address in addresses]
    print("ready", flush=True)
    await asyncio.gather(*(server.serve_forever() for server in servers))


def _main(mode, *arguments):
    if mode == "serve":
        asyncio.run(_serve(arguments))
    else:
        print(json.dumps(asyncio.run(_client(arguments[0], int(arguments[1]), float(arguments[2])))))


if __name__ == "__main__":
    _main(*sys.argv[1:])
    sys.exit(0)

import machine  # noqa: E402
from lab import Agent, BenchError, Lab, end, enter_netns, find_binary, run  # noqa: E402
from results import result  # noqa: E402


def _python(lab, netns, cgroup, *arguments):
    def enter():
        pathlib.Path(cgroup, "cgroup.procs").write_text("0", encoding="ascii")
        enter_netns(netns)

    process = subprocess.Popen([sys.executable, __file__, *map(str, arguments)], stdout=subprocess.PIPE, text=True,
                               preexec_fn=enter, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"})
    lab.callback(end, process)
    return process


def _ejected_at(agent):
    """Unix time of the first ejection by endpoint."""
    events = json.loads(run(find_binary("meshctl"), "--socket", agent.home / "run/meshd.sock", "history", "-o", "json"))
    times = {}
    for event in events["items"]:
        if event["kind"] == "ejection" and event["text"].startswith("ejected"):
            when = datetime.datetime.fromisoformat(event["time"].replace("Z", "+00:00")).timestamp()
            times.setdefault(event["endpoint"].split(":")[0], when)
    return times


def _measure(ejection, seconds):
    """What clients saw, and when which endpoint was ejected."""
    with Lab() as lab:
        netns, app = lab.netns("plain"), lab.cgroup("app")
        # A link address that nobody has: packets arrive at the other end and are dropped without a word.
        for command in ("link add hole type veth peer name bottom", "address add 10.99.0.1/24 dev hole",
                        "link set hole up", "link set bottom up",
                        f"neighbour add {SWALLOWS} lladdr 02:00:00:00:00:09 dev hole"):
            lab.inside(netns, "ip", *command.split())
        server = _python(lab, netns, lab.cgroup("plain"), "serve", *GOOD)
        if server.stdout.readline().strip() != "ready":
            raise BenchError("the servers did not come up")
        endpoints = [{"address": f"{host}:{PORT}"} for host in [*GOOD, REFUSES, SWALLOWS]]
        agent = Agent(lab, {"services": [{"name": "web", "address": VIP, "ejection": ejection, "endpoints": endpoints}]})
        agent.start()
        host, port = VIP.split(":")
        client = _python(lab, netns, app, "client", host, port, seconds)
        log = json.loads(client.stdout.read())
        if client.wait() != 0:
            raise BenchError("the client failed")
        return sorted(log), _ejected_at(agent)


def _failed_percent(log):
    return 100 * sum(1 for _, established in log if not established) / len(log) if log else None


def bench_ejection(quick):
    with machine.Watch() as watch:
        without, _ = _measure("off", 10)
        log, ejected = _measure("on", 20 if quick else 100)
    if set(ejected) != {REFUSES, SWALLOWS}:
        raise BenchError(f"ejected were {sorted(ejected)}, expected {REFUSES} and {SWALLOWS}")
    begin, out = log[0][0], max(ejected.values())
    before = [one for one in log if one[0] <= out]
    after = [one for one in log if one[0] > out]
    what = f"{RATE} connects/s to 10 backends, 1 refuses, 1 swallows"

    def entry(name, figure, unit, goal=""):
        return result("ejection", f"{what}: {name}", figure, unit, goal=goal, idle=watch.idle)

    yield entry("failed with ejection off", _failed_percent(without), "% of connects")
    yield entry("failed until both are out", _failed_percent(before), "% of connects")
    yield entry(f"failed in the {log[-1][0] - out:.0f} s after, probations included", _failed_percent(after),
                "% of connects", goal="<= 1")
    yield entry("the one that refuses is out after", ejected[REFUSES] - begin, "s", goal="<= 2")
    yield entry(f"the one that swallows is out after (clients wait {PATIENCE} s)", ejected[SWALLOWS] - begin, "s",
                goal=f"<= {PATIENCE + 2}")
