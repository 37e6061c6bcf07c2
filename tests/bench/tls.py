# SPDX-License-Identifier: Apache-2.0
"""tls: meshd relay, HAProxy and nginx (stream, ssl) in turns, with the same certificates, ciphers and backend.

Full handshakes per second (TLS 1.3; ECDSA P-256 and RSA-2048), resumed ones (TLS 1.2), requests per
second on kept-alive connections (1 KiB), bulk transfer, and memory of idle connections; CPU time of the terminator
beside each rate. wrk, `openssl s_time` and the backend (nginx) run on the other CPU.
"""
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
from lab import Agent, BenchError, Lab, find_binary, run
from results import result

PEERS = ("meshd", "haproxy", "nginx")
BACKEND = "10.0.0.1:9100"
PORTS = {("meshd", "ecdsa"): 7443, ("haproxy", "ecdsa"): 7444, ("nginx", "ecdsa"): 7445,
         ("meshd", "rsa"): 7453, ("haproxy", "rsa"): 7454, ("nginx", "rsa"): 7455}
CIPHERS12 = "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256"
CIPHERS13 = "TLS_AES_128_GCM_SHA256"
CONNECTIONS = min(60_000, resource.getrlimit(resource.RLIMIT_NOFILE)[1] // 2 - 500)  # each takes two descriptors
IDLE = min(10_000, CONNECTIONS - 500)
TICKS = os.sysconf("SC_CLK_TCK")


def _certificates(lab):
    files = {}
    for kind, options in (("ecdsa", ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]), ("rsa", ["-newkey", "rsa:2048"])):
        key, certificate = lab.folder / f"{kind}.key", lab.folder / f"{kind}.crt"
        run("openssl", "req", "-x509", "-nodes", *options, "-days", "30", "-subj", "/CN=bench.test",
            "-addext", "subjectAltName=DNS:bench.test", "-keyout", key, "-out", certificate)
        (lab.folder / f"{kind}.pem").write_text(certificate.read_text() + key.read_text())
        files[kind] = (certificate, key)
    return files


def _backend(lab, netns, cpu):
    (lab.folder / "www").mkdir()
    (lab.folder / "www" / "1k").write_bytes(b"x" * 1024)
    (lab.folder / "www" / "bulk").write_bytes(bytes(64 << 20))
    path = lab.folder / "backend.conf"
    path.write_text(f"""daemon off;
master_process off;
pid {lab.folder}/backend.pid;
error_log /dev/null crit;
events {{ worker_connections 19000; }}
http {{
  access_log off;
  sendfile on;
  keepalive_requests 100000000;
  keepalive_timeout 600s;
  server {{ listen {BACKEND} backlog=4096; root {lab.folder}/www; }}
}}
""")
    lab.start("nginx", "-c", path, "-p", "/usr/share/nginx", netns=netns, cpu=cpu, log="backend.log")


def _meshd(lab, netns, files, workers, cpu):
    listeners = [{"name": kind, "address": f"0.0.0.0:{PORTS['meshd', kind]}", "service": "bench",
                  "tls": {"certificates": [{"certificate": str(files[kind][0]), "key": str(files[kind][1])}]},
                  "limits": {"connections": 100000}} for kind in ("ecdsa", "rsa")]
    agent = Agent(lab, {"services": [{"name": "bench", "address": "240.64.0.10:80", "endpoints": [{"address": BACKEND}]}],
                        "relay": {"workers": workers, "listeners": listeners}})
    agent.start(cpu=cpu)
    return lab.start(find_binary("meshd"), "relay", "--socket", agent.home / "run" / "relay.sock", "--state-dir",
                     lab.folder / "relay", netns=netns, cpu=cpu, log="relay.log")


def _haproxy(lab, netns, files, workers, cpu):
    path = lab.folder / "haproxy-tls.cfg"
    path.write_text(f"""global
  nbthread {workers}
  maxconn {CONNECTIONS}
  ssl-default-bind-ciphers {CIPHERS12}
  ssl-default-bind-ciphersuites {CIPHERS13}
  ssl-default-bind-options ssl-min-ver TLSv1.2
  tune.ssl.default-dh-param 2048
defaults
  mode tcp
  timeout connect 5s
  timeout client 600s
  timeout server 600s
""" + "".join(f"""listen {kind}
  bind 0.0.0.0:{PORTS['haproxy', kind]} ssl crt {lab.folder}/{kind}.pem backlog 4096
  server s1 {BACKEND}
""" for kind in files))
    return lab.start("haproxy", "-db", "-f", path, netns=netns, cpu=cpu, log="haproxy.log")


def _nginx(lab, netns, files, workers, cpu):
    path = lab.folder / "nginx-tls.conf"
    servers = "".join(f"""  server {{
    listen {PORTS['nginx', kind]} ssl backlog=4096;
    ssl_certificate {files[kind][0]};
    ssl_certificate_key {files[kind][1]};
    proxy_pass {BACKEND};
  }}
""" for kind in files)
    # Workers as threads don't exist here: one process each, so that one worker is one process.
    path.write_text(f"""daemon off;
{'master_process off;' if workers == 1 else 'user root;'}
worker_processes {workers};
pid {lab.folder}/nginx-tls.pid;
error_log /dev/null crit;
load_module modules/ngx_stream_module.so;
events {{ worker_connections {2 * CONNECTIONS}; }}
stream {{
  ssl_protocols TLSv1.2 TLSv1.3;
  ssl_ciphers {CIPHERS12};
  ssl_session_cache shared:tls:10m;
  proxy_timeout 600s;
{servers}}}
""")
    return lab.start("nginx", "-c", path, "-p", "/usr/share/nginx", netns=netns, cpu=cpu, log="nginx-tls.log")


def _family(pid):
    """A process and its children."""
    children = pathlib.Path(f"/proc/{pid}/task/{pid}/children")
    return [pid, *(int(child) for child in children.read_text().split())]


def _cpu_seconds(pid):
    total = 0
    for one in _family(pid):
        fields = pathlib.Path(f"/proc/{one}/stat").read_text().rsplit(")", 1)[1].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICKS


def _rss(pid):
    return sum(int(re.search(r"Pss:\s+(\d+)", pathlib.Path(f"/proc/{one}/smaps_rollup").read_text()).group(1)) * 1024
               for one in _family(pid))


def _inside(netns, cpus, *command, timeout=60):
    done = subprocess.run(["nsenter", f"--net={netns}", "--", "taskset", "-c", ",".join(map(str, sorted(cpus))),
                           *map(str, command)], capture_output=True, text=True, timeout=timeout)
    return done.stdout + done.stderr


def _wrk(netns, cpus, port, path, seconds, connections):
    text = _inside(netns, cpus, "wrk", "-t", 1, "-c", connections, "-d", f"{seconds}s", "--latency",
                   f"https://10.0.0.1:{port}/{path}")
    rate = re.search(r"Requests/sec:\s+([\d.]+)", text)
    moved = re.search(r"Transfer/sec:\s+([\d.]+)([KMG])B", text)
    errors = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text)
    if not rate or (errors and (int(errors.group(1)) or int(errors.group(4)))):
        raise BenchError(f"wrk at port {port}: {text.strip()[-500:]}")
    scale = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
    return {"rate": float(rate.group(1)), "bytes": float(moved.group(1)) * scale[moved.group(2)] if moved else 0}


def _handshakes(netns, cpus, port, seconds, *options):
    """Four openssl s_time at once: connect, handshake, close. (wrk resumes sessions, so it can't count full ones.)"""
    one = f"openssl s_time -connect 10.0.0.1:{port} -time {seconds} {' '.join(options)}"
    text = _inside(netns, cpus, "sh", "-c", f"for i in 1 2 3 4; do {one} & done; wait", timeout=seconds + 30)
    # Each prints two lines: over its own CPU time, then over real time.
    found = re.findall(r"(\d+) connections in (\d+) real seconds", text)
    if len(found) != 4:
        raise BenchError(f"s_time at port {port}: {text.strip()[-500:]}")
    return {"rate": sum(int(count) / int(took) for count, took in found), "bytes": 0}


MEASURES = {
    "full handshakes, ECDSA P-256": ("/s", lambda at: _handshakes(at["netns"], at["load"], at["ecdsa"], at["seconds"], "-new")),
    "full handshakes, RSA-2048": ("/s", lambda at: _handshakes(at["netns"], at["load"], at["rsa"], at["seconds"], "-new")),
    "resumed handshakes, TLS 1.2": ("/s", lambda at: _handshakes(at["netns"], at["load"], at["ecdsa"], at["seconds"], "-reuse", "-tls1_2")),
    "requests of 1 KiB, kept alive": ("/s", lambda at: _wrk(at["netns"], at["load"], at["ecdsa"], "1k", at["seconds"], 64)),
    "bulk": ("Gbit/s", lambda at: _wrk(at["netns"], at["load"], at["ecdsa"], "bulk", at["seconds"], 4)),
}


def _idle_memory(netns, cpus, port, pid, count):
    """Bytes per idle connection. The client is a program of this file's neighbour: many sessions of OpenSSL."""
    before = _rss(pid)
    holder = subprocess.Popen(["nsenter", f"--net={netns}", "--", "taskset", "-c", ",".join(map(str, sorted(cpus))),
                               "python3", str(pathlib.Path(__file__).with_name("tls_hold.py")), "10.0.0.1", str(port), str(count)],
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        if holder.stdout.readline().strip() != "ready":
            raise BenchError(f"could not hold {count} connections at port {port}")
        time.sleep(2)
        return (_rss(pid) - before) / count
    finally:
        holder.stdin.close()
        holder.wait(60)


def bench_tls(quick):
    peers.require_peers()
    if not shutil.which("wrk"):
        raise BenchError("missing wrk; run: sudo scripts/setup --bench")
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2:
        raise BenchError("needs two CPUs: one for the terminator, one for load and backend")
    rounds, seconds = (2, 2) if quick else (7, 5)
    out = []
    with machine.Watch() as watch, Lab() as lab:
        netns = lab.netns("tls")
        files = _certificates(lab)
        load = {cpus[1]}
        _backend(lab, netns, cpus[1])
        processes = {"meshd": _meshd(lab, netns, files, 1, cpus[0]),
                     "haproxy": _haproxy(lab, netns, files, 1, cpus[0]),
                     "nginx": _nginx(lab, netns, files, 1, cpus[0])}
        peers.wait_listening(lab, netns, BACKEND, *(f":{port}" for port in PORTS.values()))
        for name, (unit, measure) in MEASURES.items():
            rates = {peer: [] for peer in PEERS}
            costs = {peer: [] for peer in PEERS}
            for turn in range(rounds):
                for peer in PEERS[turn % 3:] + PEERS[:turn % 3]:
                    at = {"netns": netns, "load": load, "seconds": seconds,
                          "ecdsa": PORTS[peer, "ecdsa"], "rsa": PORTS[peer, "rsa"]}
                    before = _cpu_seconds(processes[peer].pid)
                    measured = measure(at)
                    used = _cpu_seconds(processes[peer].pid) - before
                    figure = measured["rate"] if unit == "/s" else measured["bytes"] * 8 / 1e9
                    rates[peer].append(figure)
                    costs[peer].append(used / max(1, measured["rate"] * seconds) * 1e6)
            median = {peer: statistics.median(rates[peer]) for peer in PEERS}
            cost = {peer: statistics.median(costs[peer]) for peer in PEERS}
            best = max(("haproxy", "nginx"), key=lambda peer: median[peer])
            ratios = sorted(a / b for a, b in zip(rates["meshd"], rates[best]))
            figures = ", ".join(f"{peer} {median[peer]:,.1f} {unit} at {cost[peer]:,.0f} us" for peer in PEERS)
            out.append(result("tls", name, median["meshd"] / median[best], "ratio", peer=best, goal=">= 1.2", idle=None,
                              low=ratios[0], high=ratios[-1], note=figures))
        memory = {peer: _idle_memory(netns, load, PORTS[peer, "ecdsa"], processes[peer].pid, IDLE // (10 if quick else 1))
                  for peer in PEERS}
        best = min(("haproxy", "nginx"), key=lambda peer: memory[peer])
        out.append(result("tls", f"memory of an idle connection, of {IDLE // (10 if quick else 1):,}", memory["meshd"] / memory[best], "ratio", peer=best,
                          goal="<= 0.8", note=", ".join(f"{peer} {memory[peer] / 1024:.1f} KiB" for peer in PEERS)))
    for entry in out:
        entry["idle"] = watch.idle
    return out
