# SPDX-License-Identifier: Apache-2.0
"""discovery: 10,000 services with 10 endpoints each through registries.

How long until all are in force, what they weigh, and with them loaded how long a change takes from the bytes that tell
it to connect(). Each registry is a double of tests/doubles, a process of its own on the same machine: where it and not
the agent sets the pace, its own time is given too.
"""
import contextlib
import http.client
import json
import os
import pathlib
import socket
import subprocess
import time

import machine
from lab import Agent, BenchError, Lab, enter_netns, find_binary, run
from results import result

DOUBLES = pathlib.Path(__file__).resolve().parent.parent / "doubles"
MIB = 1024 * 1024
SERVICES, ENDPOINTS, FLIPPING = 10000, 10, 100


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost")
        self._path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(self._path)


def _free_port():
    with socket.create_server(("127.0.0.1", 0)) as one:
        return one.getsockname()[1]


def _control(make, method, path, body, patience=60):
    """Asks until the double is there."""
    end = time.monotonic() + patience
    while True:
        with contextlib.closing(make()) as connection:
            try:
                connection.request(method, path, json.dumps(body))
                answer = connection.getresponse()
                if answer.status != 200:
                    raise BenchError(f"double: {method} {path}: {answer.status} {answer.read()[:300]}")
                return answer.read()
            except OSError as error:
                if time.monotonic() > end:
                    raise BenchError(f"double: {method} {path}: {error}") from error
        time.sleep(0.05)


# A registry: start() runs its double, loaded; source() is what stands in the configuration, and lets FLIPPING services
# have one usable endpoint, 127.0.0.1:19001; first_address() is that of the first of them, known beforehand; name(i) how
# `meshctl services` names them; flip() as tests/doubles/*_double.py describe it.
class Kubernetes:
    title = "Kubernetes"

    def __init__(self, lab, services, endpoints, flipping):
        self.port = _free_port()
        self.config = lab.folder / "kubeconfig"
        self.config.write_text(json.dumps({
            "apiVersion": "v1", "kind": "Config", "current-context": "bench",
            "clusters": [{"name": "bench", "cluster": {"server": f"http://127.0.0.1:{self.port}"}}],
            "users": [{"name": "bench", "user": {"token": "none"}}],
            "contexts": [{"name": "bench", "context": {"cluster": "bench", "user": "bench"}}]}))
        self.process = lab.start("python3", DOUBLES / "kubernetes_double.py", "--port", self.port,
                                 "--seed-services", services, "--seed-endpoints", endpoints, "--seed-flipping", flipping,
                                 cgroup=lab.cgroup("double"), log="double.log")
        self._ask("GET", "state", None)

    def _ask(self, method, what, body):
        return _control(lambda: http.client.HTTPConnection("127.0.0.1", self.port, timeout=60), method,
                        f"/_control/{what}", body)

    def source(self):
        return {"type": "kubernetes", "kubernetes": {"kubeconfig": str(self.config), "all": True}}

    def first_address(self):
        return "10.96.0.0", 80

    def name(self, number):
        return f"service-{number}.space-{number % 50}"

    def flip(self, rate, changes, report):
        self._ask("POST", "flip", {"rate": rate, "changes": changes, "report": str(report)})


class Consul:
    title = "Consul"

    def __init__(self, lab, services, endpoints, flipping):
        self.flipping = flipping
        self.port = _free_port()
        self.socket = lab.folder / "consul.control"
        self.process = lab.start("python3", DOUBLES / "consul_double.py", "--port", self.port, "--control", self.socket,
                                 cgroup=lab.cgroup("double"), log="double.log")
        self._ask("/load", {"services": services, "instances": endpoints, "flipping": flipping})

    def _ask(self, path, body):
        return _control(lambda: UnixConnection(str(self.socket)), "PUT", path, body)

    def source(self):
        return {"type": "consul", "consul": {
            "address": f"http://127.0.0.1:{self.port}",
            "services": [{"match": "s0", "address": "240.64.0.10", "port": 80}, {"match": "all", "port": 80}]}}

    def first_address(self):
        return "240.64.0.10", 80

    def name(self, number):
        return f"s{number}"

    def flip(self, rate, changes, report):
        self._ask("/flip", {"services": self.flipping, "rate": rate, "changes": changes, "report": str(report)})


class Xds:
    title = "xDS"

    def __init__(self, lab, services, endpoints, flipping):
        if subprocess.run(["/usr/bin/python3", "-c", "import grpc, google.protobuf"], stderr=subprocess.DEVNULL).returncode:
            raise BenchError("python3-grpcio or python3-protobuf is not installed: scripts/setup --bench")
        self.flipping, self.endpoints = flipping, endpoints
        self.address, self.socket = f"127.0.0.1:{_free_port()}", lab.folder / "xds.control"
        self.process = lab.start("/usr/bin/python3", DOUBLES / "xds_double.py", "--listen", self.address, "--control",
                                 self.socket, "--protos", DOUBLES.parent.parent / "agent", cgroup=lab.cgroup("double"),
                                 log="double.log")
        self._ask("/many", {"clusters": services, "endpoints": endpoints, "flipping": flipping})

    def _ask(self, path, body):
        return _control(lambda: UnixConnection(str(self.socket)), "PUT", path, body)

    def source(self):
        return {"type": "xds", "xds": {
            "server": f"grpc://{self.address}",
            "services": [{"match": "service-0", "address": "240.64.0.10", "port": 80}, {"match": "all", "port": 80}]}}

    def first_address(self):
        return "240.64.0.10", 80

    def name(self, number):
        return f"service-{number}"

    def flip(self, rate, changes, report):
        self._ask("/flip", {"clusters": self.flipping, "endpoints": self.endpoints, "rate": rate, "changes": changes,
                            "report": str(report)})


REGISTRIES = [Kubernetes, Consul, Xds]


def _in_client(lab):
    """For preexec_fn: an application of the mesh."""
    pathlib.Path(lab.cgroup("app"), "cgroup.procs").write_text("0")
    enter_netns(lab.netns("plain"))


def _await_answered(lab, address, begin, timeout, answer):
    """In a child: connects until something answers; its time into the pipe."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        _in_client(lab)
        with socket.create_server(("127.0.0.1", 19001), backlog=64):
            while time.monotonic() - begin < timeout:
                with socket.socket() as attempt:
                    attempt.settimeout(1)
                    if attempt.connect_ex(address) == 0:
                        os.write(answer, json.dumps(time.monotonic() - begin).encode())
                        code = 0
                        break
                time.sleep(0.001)
    finally:
        os._exit(code)


def _cpu_seconds(process):
    fields = pathlib.Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _start(lab, registry, timeout=180):
    """(agent, seconds until all is in force, CPU seconds of agent and double until then)."""
    agent = Agent(lab, {"sources": [registry.source()]})
    lab.netns("plain")
    busy_before = _cpu_seconds(registry.process)
    reader, writer = os.pipe()
    begin = time.monotonic()
    child = _await_answered(lab, registry.first_address(), begin, timeout, writer)
    os.close(writer)
    try:
        agent.start(timeout=timeout)
        with os.fdopen(reader, "rb") as answer:
            text = answer.read()
    finally:
        os.waitpid(child, 0)
    if not text:
        raise BenchError(f"connect() to {registry.first_address()} was not answered within {timeout} s:\n"
                         f"{agent.log()[-2000:]}")
    return agent, json.loads(text), _cpu_seconds(agent.process), _cpu_seconds(registry.process) - busy_before


def _source(agent):
    return next(one for one in json.loads(agent.ask("/v1/sources")[1])["items"] if one["type"] != "file")


def _addresses(agent, registry):
    """Of the services that flip, in their order."""
    listed = run(find_binary("meshctl"), "--socket", agent.home / "run/meshd.sock", "services", "-o", "json")
    by_name = {service["name"]: service["frontend"].split("/")[0] for service in json.loads(listed)["items"]}
    return [by_name[registry.name(number)] for number in range(FLIPPING)]


def _flip(lab, agent, registry, rate, changes):
    """What discovery_bench says, and what the agent did meanwhile: its share of a CPU, updates it took over."""
    services, report = lab.folder / "flipping", lab.folder / f"report-{rate}"
    services.write_text("".join(f"{address}\n" for address in _addresses(agent, registry)))
    os.mkfifo(report)
    machine.require_stats_off()
    with machine.Watch() as watch:
        watcher = subprocess.Popen([str(find_binary("discovery_bench")), "--services", services, "--changes", report],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                   preexec_fn=lambda: _in_client(lab))
        lab.callback(watcher.kill)
        before, updates, begin = _cpu_seconds(agent.process), _source(agent)["updates"], time.monotonic()
        registry.flip(rate, changes, report)
        time.sleep(changes / rate)
        used = (_cpu_seconds(agent.process) - before) / (time.monotonic() - begin)
        out, err = watcher.communicate(timeout=60)
    measured = json.loads(out) if out.strip() else {}
    if "median_ms" not in measured:
        raise BenchError(f"discovery_bench: exit {watcher.returncode}: {err.strip()} {out.strip()}")
    return {**measured, "cpu": used, "updates": _source(agent)["updates"] - updates, "idle": watch.idle}


def _bench(kind, quick):
    title = f"{SERVICES:,} x {ENDPOINTS} from {kind.title}"
    with Lab() as lab:
        registry = kind(lab, SERVICES, ENDPOINTS, FLIPPING)
        with machine.Watch() as watch:
            agent, effective, cpu, double = _start(lab, registry)
        idle = watch.idle
        time.sleep(8)  # what follows the first tables, such as the state on disk
        memory = agent.memory()
        yield result("discovery", f"first sync, {title}", effective, "s", idle=idle,
                     note=f"from the start of the process to connect(); the double was busy for {double:.1f} s of it")
        yield result("discovery", f"agent's CPU until then, {title}", cpu, "s", idle=idle)
        tables = f"without {memory['mapped'] / MIB:.1f} MiB of mapped kernel tables"
        for name in ("rss", "peak"):
            what = {"rss": "settled RSS", "peak": "peak RSS"}[name]
            yield result("discovery", f"{what}, {title}", (memory[name] - memory["mapped"]) / MIB, "MiB", idle=idle,
                         note=tables)
        before, begin = _cpu_seconds(agent.process), time.monotonic()
        time.sleep(10)
        yield result("discovery", f"agent's CPU while nothing changes, {title}",
                     (_cpu_seconds(agent.process) - before) / (time.monotonic() - begin) * 100, "% of a core", idle=idle)
        for rate, changes in ((5, 25 if quick else 150), (100, 500 if quick else 3000)):
            flips = _flip(lab, agent, registry, rate, changes)
            title = f"{rate} changes/s over {SERVICES:,} x {ENDPOINTS} from {kind.title}"
            told, made = flips["changes"], changes
            note = f"{made} changes; {told} told by answers, {flips['updates']} updates"
            yield result("discovery", f"bytes to connect(), median, {title}", flips["median_ms"], "ms", goal="<= 2",
                         idle=flips["idle"], note=note, histogram=flips["histogram"])
            yield result("discovery", f"bytes to connect(), p99, {title}", flips["p99_ms"], "ms", goal="<= 10",
                         idle=flips["idle"])
            yield result("discovery", f"bytes to connect(), worst, {title}", flips["max_ms"], "ms", idle=flips["idle"])
            yield result("discovery", f"changes lost, {title}", flips["lost"], "changes", goal="== 0", idle=flips["idle"])
            yield result("discovery", f"changes put together with others, {title}", max(0, told - flips["updates"]),
                         "changes", idle=flips["idle"], note="by the client of the registry; none is lost")
            yield result("discovery", f"agent's CPU, {title}", flips["cpu"] * 100, "% of a core", idle=flips["idle"])


def bench_discovery(quick):
    for kind in REGISTRIES:
        yield from _bench(kind, quick)
