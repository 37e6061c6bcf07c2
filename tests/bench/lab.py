# SPDX-License-Identifier: Apache-2.0
"""What a benchmark stands on, and what it leaves behind: nothing.

A Lab owns network namespaces, cgroups, a bpffs instance, processes and a temporary folder, all named after this
process, and takes them down in reverse order, also after an exception or a signal.
"""
import contextlib
import ctypes
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
CLONE_NEWNET = 0x40000000


class BenchError(Exception):
    """Something a person has to fix; the text says what and how."""


def run(*command, **options):
    """A command that must succeed; its output as text."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, **options)
    if done.returncode != 0:
        raise BenchError(f"{' '.join(map(str, command))}: exit {done.returncode}: {done.stderr.strip()[-2000:]}")
    return done.stdout


def cgroup2_mount():
    """The cgroup2 mount: not always /sys/fs/cgroup, and not at the root of the tree in the hybrid layout."""
    for line in pathlib.Path("/proc/mounts").read_text().splitlines():
        _, where, kind, *_ = line.split()
        if kind == "cgroup2":
            return pathlib.Path(where)
    raise BenchError("no cgroup2 mount in /proc/mounts; mount one: mount -t cgroup2 none /sys/fs/cgroup")


def find_binary(name, build="release"):
    """A program of the build, wherever its folder is."""
    found = sorted(path for path in (ROOT / "build" / build).glob(f"**/{name}")
                   if path.is_file() and os.access(path, os.X_OK) and "CMakeFiles" not in path.parts)
    if not found:
        raise BenchError(f"no {name} in build/{build}; run: cmake --build --preset {build}")
    return found[0]


class Lab(contextlib.ExitStack):
    def __init__(self):
        super().__init__()
        self.id = f"meshb{os.getpid()}"
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix=f"{self.id}-"))
        self.callback(shutil.rmtree, self.folder, ignore_errors=True)
        self._cgroup_base = None
        self._namespaces = {}

    def netns(self, name):
        """Path of a network namespace with loopback up and 10.0.0.1 on it; made at first use."""
        if name not in self._namespaces:
            full = f"{self.id}-{name}"
            run("ip", "netns", "add", full)
            self.callback(subprocess.run, ["ip", "netns", "del", full], stderr=subprocess.DEVNULL)
            path = f"/run/netns/{full}"
            self.inside(path, "ip", "link", "set", "lo", "up")
            self.inside(path, "ip", "address", "add", "10.0.0.1/32", "dev", "lo")
            # Many thousand connects between two addresses: all ports, and room for what waits to be accepted.
            self.inside(path, "sysctl", "-qw", "net.ipv4.ip_local_port_range=1024 65000", "net.core.somaxconn=4096")
            # Orderly closes by the thousand: keep few of them in TIME_WAIT, or the search for a free port is measured.
            self.inside(path, "sysctl", "-qw", "net.ipv4.tcp_max_tw_buckets=1024")
            self._namespaces[name] = path
        return self._namespaces[name]

    @staticmethod
    def inside(netns, *command):
        """A command in a namespace, with the mounts of this process (`ip netns exec` would hide bpffs and cgroup2)."""
        return run("nsenter", f"--net={netns}", "--", *command)

    def cgroup(self, name):
        """Folder of a new leaf cgroup below one of our own."""
        if self._cgroup_base is None:
            self._cgroup_base = cgroup2_mount() / self.id
            self._cgroup_base.mkdir()
            self.callback(self._remove_cgroups)
        path = self._cgroup_base / name
        path.mkdir(exist_ok=True)
        return path

    def cgroup_name(self, name):
        """The same as a configuration spells it: below the cgroup2 mount."""
        return f"/{self.cgroup(name).relative_to(cgroup2_mount())}"

    def _remove_cgroups(self):
        for path in sorted(self._cgroup_base.rglob("*"), reverse=True):
            if path.is_dir():
                with contextlib.suppress(OSError):
                    path.rmdir()
        with contextlib.suppress(OSError):
            self._cgroup_base.rmdir()

    def bpffs(self):
        path = self.folder / "bpffs"
        path.mkdir()
        run("mount", "-t", "bpf", "bpf", path)
        self.callback(subprocess.run, ["umount", "-l", str(path)], stderr=subprocess.DEVNULL)
        return path

    def start(self, *command, netns=None, cgroup=None, cpu=None, environment=None, log=None):
        """A process of ours, ended with the lab (SIGTERM, after 5 s SIGKILL). `cpu`: one, or a set of them."""
        def enter():
            if cgroup:
                pathlib.Path(cgroup, "cgroup.procs").write_text("0")
            if netns:
                enter_netns(netns)
            if cpu is not None:
                os.sched_setaffinity(0, {cpu} if isinstance(cpu, int) else cpu)

        output = open(self.folder / log, "ab") if log else subprocess.DEVNULL
        process = subprocess.Popen([str(part) for part in command], stdin=subprocess.DEVNULL, stdout=output,
                                   stderr=output, preexec_fn=enter, env={**os.environ, **(environment or {})})
        self.callback(end, process)
        return process


def end(process):
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def enter_netns(path):
    libc = ctypes.CDLL(None, use_errno=True)
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if libc.setns(fd, CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), f"setns {path}")
    finally:
        os.close(fd)


class Agent:
    """meshd itself, from build/release, in a lab: its own bpffs, folders, socket and cgroups."""

    def __init__(self, lab, config, name="meshd", attach="app"):
        """`config`: everything but `agent:`, as a dict. Attaches to the cgroup `attach` of the lab and nothing else."""
        self.lab = lab
        self.home = lab.folder / name
        self.home.mkdir()
        self.binary = find_binary("meshd")
        self.bpffs = lab.bpffs() / "meshd"
        agent = {"cgroups": [lab.cgroup_name(attach)], "cgroup_root": str(cgroup2_mount()), "bpffs": str(self.bpffs),
                 "run_dir": str(self.home / "run"), "state_dir": str(self.home / "state"),
                 "socket": str(self.home / "run/meshd.sock"), "metrics": {"listen": ""}, "log": {"format": "json"}}
        agent.update(config.pop("agent", {}))
        self.config = self.home / "meshd.yaml"
        # JSON is YAML: what is generated needs no YAML writer.
        self.config.write_text(json.dumps({"apiVersion": "meshd/v1", "agent": agent, **config}, indent=1))
        lab.callback(self._detach)
        self.process = None

    def start(self, cpu=None, timeout=60):
        """Runs the agent until it says READY=1; returns the seconds that took."""
        path = self.home / "notify.sock"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            path.unlink(missing_ok=True)
            notify.bind(str(path))
            notify.settimeout(0.2)
            begin = time.monotonic()
            self.process = self.lab.start(self.binary, "run", "--config", self.config, cgroup=self.lab.cgroup("agent"),
                                          cpu=cpu, environment={"NOTIFY_SOCKET": str(path)}, log="meshd.log")
            while time.monotonic() - begin < timeout:
                if self.process.poll() is not None:
                    raise BenchError(f"meshd ended with {self.process.returncode}:\n{self.log()[-3000:]}")
                with contextlib.suppress(socket.timeout):
                    if b"READY=1" in notify.recv(65536):
                        return time.monotonic() - begin
        raise BenchError(f"meshd was not ready after {timeout} s:\n{self.log()[-3000:]}")

    def log(self):
        path = self.lab.folder / "meshd.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def memory(self):
        """Bytes: 'rss' resident now, 'peak' ever, 'mapped' the part of both that is kernel tables seen through mmap,
        'maps' what all maps take in the kernel."""
        status = dict(line.split(":", 1) for line in
                      pathlib.Path(f"/proc/{self.process.pid}/status").read_text().splitlines())
        maps = {}
        for info in pathlib.Path(f"/proc/{self.process.pid}/fdinfo").iterdir():
            with contextlib.suppress(OSError):
                fields = dict(line.split(":", 1) for line in info.read_text().splitlines() if ":" in line)
                if "map_id" in fields and "memlock" in fields:
                    maps[fields["map_id"].strip()] = int(fields["memlock"])
        mapped, in_map = 0, False
        for line in pathlib.Path(f"/proc/{self.process.pid}/smaps").read_text().splitlines():
            if line[0] in "0123456789abcdef":
                in_map = line.endswith("bpf-map")
            elif in_map and line.startswith("Rss:"):
                mapped += int(line.split()[1]) * 1024
        return {"mapped": mapped, "rss": int(status["VmRSS"].split()[0]) * 1024, "peak": int(status["VmHWM"].split()[0]) * 1024,
                "maps": sum(maps.values())}

    def ask(self, target):
        """(seconds until the answer was there whole, its bytes) of a GET at the admin socket."""
        begin = time.monotonic()
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.connect(str(self.home / "run/meshd.sock"))
            client.sendall(f"GET {target} HTTP/1.1\r\nHost: meshd\r\nConnection: close\r\n\r\n".encode())
            answer = b"".join(iter(lambda: client.recv(1 << 20), b""))
        took = time.monotonic() - begin
        head, _, body = answer.partition(b"\r\n\r\n")
        if b" 200 " not in head.split(b"\r\n", 1)[0]:
            raise BenchError(f"GET {target}: {head.decode(errors='replace')}")
        return took, body

    def map_use(self, name):
        """{"used", "capacity", "bytes"} of a kernel map, as the agent counted it last (every few seconds)."""
        stats = run(find_binary("meshctl"), "--socket", self.home / "run/meshd.sock", "bpf", "stats", "-o", "json")
        return next(row for row in json.loads(stats)["maps"] if row["name"] == name)

    def _detach(self):
        subprocess.run([str(self.binary), "detach", "--bpffs", str(self.bpffs)], stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL)


def on_signals_exit():
    """Turns SIGTERM and SIGHUP into an exception, so that labs are taken down."""
    def leave(number, _frame):
        raise SystemExit(128 + number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, leave)
