# SPDX-License-Identifier: Apache-2.0
"""Which machine a number comes from, and whether the machine had anything else to do."""
import datetime
import os
import pathlib
import platform
import subprocess
import time

from lab import ROOT, BenchError

IDLE_ABOVE = 0.90  # share of all CPUs; below, tails and absolute times are not worth quoting


def _cpu_times():
    fields = [int(part) for part in pathlib.Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return fields[3] + fields[4], fields[7], sum(fields)  # idle and waiting for disks, stolen, all


def idle_share(seconds=1.0):
    """Share of CPU time in which nothing ran, over some seconds in which we run nothing."""
    idle0, _, all0 = _cpu_times()
    time.sleep(seconds)
    idle1, _, all1 = _cpu_times()
    return (idle1 - idle0) / max(1, all1 - all0)


class Watch:
    """`with Watch() as watch: ...`: watch.idle says whether the machine was idle before and after, and not robbed of
    CPU by its host in between."""

    def __enter__(self):
        self.before = idle_share()
        _, self._stolen, self._all = _cpu_times()
        self.load = os.getloadavg()[0]
        return self

    def __exit__(self, *_):
        _, stolen, all_ = _cpu_times()
        self.stolen = (stolen - self._stolen) / max(1, all_ - self._all)
        self.after = idle_share()
        self.idle = min(self.before, self.after) >= IDLE_ABOVE and self.stolen < 0.01


def require_stats_off():
    """Statistics of BPF programs cost 20 ns a run and would be charged to whoever runs more of them."""
    path = pathlib.Path("/proc/sys/kernel/bpf_stats_enabled")
    if path.exists() and path.read_text().strip() != "0":
        raise BenchError("kernel.bpf_stats_enabled is not 0: it slows what is measured; "
                         "run: sysctl -w kernel.bpf_stats_enabled=0")


def describe():
    cpu = next((line.split(":", 1)[1].strip() for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines()
                if line.startswith("model name")), platform.processor())
    memory = next(int(line.split()[1]) for line in pathlib.Path("/proc/meminfo").read_text().splitlines()
                  if line.startswith("MemTotal"))
    os_release = dict(line.split("=", 1) for line in pathlib.Path("/etc/os-release").read_text().splitlines()
                      if "=" in line)
    version = subprocess.run(["git", "-C", str(ROOT), "describe", "--always", "--dirty"], capture_output=True,
                             text=True).stdout.strip()
    return {"date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"), "cpu": cpu,
            "cpus": os.cpu_count(), "memory_gib": round(memory / 1024 / 1024, 1),
            "kernel": platform.release(), "architecture": platform.machine(),
            "system": os_release.get("PRETTY_NAME", "").strip('"'), "version": version}
