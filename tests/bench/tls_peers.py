# SPDX-License-Identifier: Apache-2.0
"""Who terminates TLS in the benchmark `tls`: meshd relay, HAProxy and nginx (stream, ssl), with the same certificates,
ciphers and backend, configured as people run them."""
import os
import pathlib
import re
import resource

from lab import Agent, find_binary, run

PEERS = ("meshd", "haproxy", "nginx")
KINDS = ("ecdsa", "rsa", "mutual")  # listeners: of a certificate each; the last shows the first and asks clients for one
BACKEND = "10.0.0.1:9100"
PORTS = {(peer, kind): 7400 + 10 * i + j for i, peer in enumerate(PEERS) for j, kind in enumerate(KINDS)}
CIPHERS12 = "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256"
CIPHERS13 = "TLS_AES_128_GCM_SHA256"
CONNECTIONS = min(60_000, resource.getrlimit(resource.RLIMIT_NOFILE)[1] // 2 - 500)  # each takes two descriptors
TICKS = os.sysconf("SC_CLK_TCK")


def certificates(folder):
    """Writes NAME.crt, NAME.key, and NAME.pem with both: of servers ecdsa and rsa, of clients' issuer and a client."""
    def make(name, key, *options):
        run("openssl", "req", "-x509", "-nodes", "-newkey", *key, "-days", "30", *options,
            "-keyout", folder / f"{name}.key", "-out", folder / f"{name}.crt")
        pem = (folder / f"{name}.crt").read_text() + (folder / f"{name}.key").read_text()
        (folder / f"{name}.pem").write_text(pem)

    p256 = ("ec", "-pkeyopt", "ec_paramgen_curve:P-256")
    for name, key in (("ecdsa", p256), ("rsa", ("rsa:2048",))):
        make(name, key, "-subj", "/CN=bench.test", "-addext", "subjectAltName=DNS:bench.test")
    make("issuer", p256, "-subj", "/CN=issuer of clients")
    run("openssl", "req", "-new", "-nodes", "-newkey", *p256, "-subj", "/CN=client", "-keyout", folder / "client.key",
        "-out", folder / "client.csr")
    run("openssl", "x509", "-req", "-in", folder / "client.csr", "-CA", folder / "issuer.crt", "-CAkey",
        folder / "issuer.key", "-CAcreateserial", "-days", "30", "-out", folder / "client.crt")


def _shows(kind):
    return "ecdsa" if kind == "mutual" else kind


def start_backend(lab, netns, cpus):
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
    return lab.start("nginx", "-c", path, "-p", "/usr/share/nginx", netns=netns, cpu=cpus, log="backend.log")


def _meshd(lab, netns, workers, cpus):
    def listener(kind):
        tls = {"certificates": [{"certificate": f"{lab.folder}/{_shows(kind)}.crt", "key": f"{lab.folder}/{_shows(kind)}.key"}]}
        if kind == "mutual":
            tls["client"] = {"verify": "require", "ca": f"{lab.folder}/issuer.crt"}
        return {"name": kind, "address": f"0.0.0.0:{PORTS['meshd', kind]}", "service": "bench", "tls": tls,
                "limits": {"connections": 100000}}

    agent = Agent(lab, {"services": [{"name": "bench", "address": "240.64.0.10:80", "endpoints": [{"address": BACKEND}]}],
                        "relay": {"workers": workers, "listeners": [listener(kind) for kind in KINDS]}})
    agent.start(cpu=cpus)
    return lab.start(find_binary("meshd"), "relay", "--socket", agent.home / "run" / "relay.sock", "--state-dir",
                     lab.folder / "relay", netns=netns, cpu=cpus, log="relay.log")


def _haproxy(lab, netns, workers, cpus):
    wants = {"mutual": f" ca-file {lab.folder}/issuer.crt verify required"}
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
  bind 0.0.0.0:{PORTS['haproxy', kind]} ssl crt {lab.folder}/{_shows(kind)}.pem{wants.get(kind, '')} backlog 4096
  server s1 {BACKEND}
""" for kind in KINDS))
    return lab.start("haproxy", "-db", "-f", path, netns=netns, cpu=cpus, log="haproxy.log")


def _nginx(lab, netns, workers, cpus):
    wants = {"mutual": f"    ssl_verify_client on;\n    ssl_client_certificate {lab.folder}/issuer.crt;\n"}
    servers = "".join(f"""  server {{
    listen {PORTS['nginx', kind]} ssl backlog=4096;
    ssl_certificate {lab.folder}/{_shows(kind)}.crt;
    ssl_certificate_key {lab.folder}/{_shows(kind)}.key;
{wants.get(kind, '')}    proxy_pass {BACKEND};
  }}
""" for kind in KINDS)
    path = lab.folder / "nginx-tls.conf"
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
    return lab.start("nginx", "-c", path, "-p", "/usr/share/nginx", netns=netns, cpu=cpus, log="nginx-tls.log")


def start_peers(lab, netns, workers, cpus):
    """{peer: its process}, all listening soon; they need the files of certificates()."""
    return {"meshd": _meshd(lab, netns, workers, cpus), "haproxy": _haproxy(lab, netns, workers, cpus),
            "nginx": _nginx(lab, netns, workers, cpus)}


def _family(pid):
    """A process and its children."""
    children = pathlib.Path(f"/proc/{pid}/task/{pid}/children")
    return [pid, *(int(child) for child in children.read_text().split())]


def cpu_seconds(process):
    total = 0
    for one in _family(process.pid):
        fields = pathlib.Path(f"/proc/{one}/stat").read_text().rsplit(")", 1)[1].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICKS


def memory(process):
    """Bytes; what processes share counts once."""
    return sum(int(re.search(r"Pss:\s+(\d+)", pathlib.Path(f"/proc/{one}/smaps_rollup").read_text()).group(1)) * 1024
               for one in _family(process.pid))
