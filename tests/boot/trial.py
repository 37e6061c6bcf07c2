#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What runs inside the machine of `scripts/verify boot`, once per boot, as root: each boot is a stage.

Writes lines to the second serial port: "title ...", "ok ...", "FAIL ...", "note ..." and, last, "end N checks, N failed".
"""
import json
import os
import pathlib
import platform
import re
import signal
import subprocess
import sys
import textwrap
import time
import traceback

HERE = pathlib.Path(__file__).parent
STATE = pathlib.Path("/var/lib/boot-trial")
CONFIG = pathlib.Path("/etc/meshd/meshd.yaml")
VIP, CACHE, EMPTY, LISTED, V6 = "240.64.0.10", "240.64.0.11", "240.64.0.12", "240.64.0.13", "fd6d:6573:6864::10"
SERVERS = ["10.0.0.11", "10.0.0.12", "10.0.0.13"]
KERNEL = tuple(int(part) for part in re.match(r"(\d+)\.(\d+)", platform.release()).groups())
PATIENCE = 120  # seconds: the machine may be emulated, and slow

SHOP = """\
[Unit]
Description=three servers, and whoever is their client
[Service]
ExecStartPre=/bin/sh -c 'for a in 10.0.0.11/32 10.0.0.12/32 10.0.0.13/32 fd00::11/128; do ip address replace $a dev lo; done'
ExecStart=/usr/bin/python3 /trial/shop.py 10.0.0.11 10.0.0.12 10.0.0.13 fd00::11
[Install]
WantedBy=multi-user.target
"""
MESHD = """\
apiVersion: meshd/v1
agent: {cgroups: [/system.slice/shop.service]}
defaults: {balance: round_robin, probe: {type: tcp, interval: 5s, timeout: 5s, rise: 2, fall: 3}}
services:
  - name: orders
    address: 240.64.0.10:80
    probe: {type: http, path: /healthz}
    endpoints: [{address: 10.0.0.11:8080}, {address: 10.0.0.12:8080}, {address: 10.0.0.13:8080}]
  - {name: cache, address: 240.64.0.11:6379, protocol: udp, balance: maglev, file: /etc/meshd/endpoints/cache.json}
  - {name: empty, address: 240.64.0.12:80, endpoints: []}
  - {name: six, address: "[fd6d:6573:6864::10]:80", endpoints: [{address: "[fd00::11]:8080"}]}
sources:
  - type: dns
    name: zone
    dns:
      servers: ["127.0.0.1:5300"]
      ttl_floor: 1s
      services:
        - {name: listed, host: listed.example, address: "240.64.0.13:80", endpoint_port: 8080}
relay:
  listeners:
    - name: shop
      address: 127.0.0.1:8443
      service: orders
      tls: {certificates: [{certificate: /etc/meshd/shop.crt, key: /etc/meshd/shop.key}]}
"""
ENDPOINTS = {"endpoints": [{"address": f"{server}:8080"} for server in SERVERS]}

report = open("/dev/ttyS1", "w", encoding="utf-8", buffering=1)
failed = 0
checked = 0


def say(kind, text):
    report.write(f"{kind} " + text.replace("\n", " | ") + "\n")


def check(name, good, detail=""):
    global failed, checked
    checked += 1
    failed += not good
    say("ok" if good else "FAIL", f"{name}: {detail}" if detail or not good else name)
    return good


def run(*command, timeout=600, **more):
    """The finished process, its output as text; both streams in stdout."""
    return subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          timeout=timeout, check=False, stdin=subprocess.DEVNULL, **more)


def answer(*command):
    """JSON that a command prints, whatever its exit code."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=600, check=False,
                          stdin=subprocess.DEVNULL)
    try:
        return json.loads(done.stdout)
    except ValueError:
        return {"error": f"{command} ended with {done.returncode}: {done.stdout} {done.stderr}"}


def until(what, patience=PATIENCE):
    """What `what` returns once that is true; else its last answer."""
    end = time.monotonic() + patience
    while True:
        got = what()
        if got or time.monotonic() > end:
            return got
        time.sleep(0.5)


def last_line(text):
    return (text.strip().splitlines() or [""])[-1]


def client(*words):
    """tests/boot/client.py inside of shop.service."""
    return answer("meshctl", "run", "--as", "shop.service", "--", "python3", HERE / "client.py", *words)


def start_client(*words):
    return subprocess.Popen(["meshctl", "run", "--as", "shop.service", "--", "python3", str(HERE / "client.py"),
                             *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def unit(name, *what):
    return dict(line.split("=", 1) for line in run("systemctl", "show", name, "-p", ",".join(what)).stdout.split("\n") if "=" in line)


def status():
    done = run("meshctl", "status")
    return done.returncode, done.stdout.strip()


def expect_healthy(name, patience=PATIENCE):
    until(lambda: status()[0] == 0, patience)
    code, text = status()
    whole = re.search(r"hooks (\d+)/(\d+) effective", text)
    check(name, code == 0 and text.startswith("healthy") and whole and whole[1] == whole[2], f"exit {code}: {text}")


def expect_balanced(name, servers, address=VIP, port=80, times=None):
    times = times or 4 * len(servers)
    got = client("get", address, port, times)
    check(name, got.get("answers", {}).keys() == set(servers) and not got.get("failures"), json.dumps(got))


def endpoint(service, address):
    listed = answer("meshctl", "endpoints", service, "-o", "json")
    for one in listed.get("endpoints", listed.get("items", [])):
        if one.get("address", "").startswith(address):
            return one
    return {"listed": listed}


def journal(name, lines=15):
    return run("journalctl", "-u", name, "-b", "-n", lines, "--no-pager", "-o", "cat").stdout


def start_zone():
    """A DNS server: the registry."""
    state = STATE / "zone.json"
    state.write_text(json.dumps({"names": {"listed.example": ["10.0.0.13"]}, "ttl": 1, "mode": "ok"}))
    run("systemd-run", "--unit", "zone", "python3", HERE / "dns_double.py", "--address", "127.0.0.1", "--port", 5300,
        "--state", state)


# --- stage 1: a clean Debian ----------------------------------------------------------------------------------------------
def install():
    say("title", "install")
    facts = f"Linux {platform.release()} {platform.version()}, systemd {run('systemctl', '--version').stdout.split()[1]}"
    say("note", facts)
    check("nothing of meshd is here", run("dpkg-query", "-W", "meshd").returncode == 1 and not pathlib.Path("/etc/meshd").exists())
    done = run("apt-get", "install", "-y", *HERE.glob("meshd_*.deb"))
    check("apt install ./meshd_*.deb", done.returncode == 0, last_line(done.stdout))
    check("nothing is started or attached", unit("meshd", "ActiveState")["ActiveState"] == "inactive"
          and not pathlib.Path("/sys/fs/bpf/meshd").exists())
    done = run("meshd", "--check-config", CONFIG)
    check("as installed it says what to write", done.returncode == 78 and "cgroups" in done.stdout, last_line(done.stdout))
    done = run("systemd-analyze", "verify", "--man=no", "meshd.service", "meshd-relay.service")
    check("systemd takes the units", done.returncode == 0 and not done.stdout, done.stdout)


def has_function(name):
    return f" {name}\n" in pathlib.Path("/proc/kallsyms").read_text(encoding="utf-8")


def requirements():
    say("title", "meshctl check")
    done = run("meshctl", "check")
    for line in done.stdout.splitlines():
        say("note", line)
    lines = {words[1]: words[0] for words in map(str.split, done.stdout.splitlines()) if len(words) > 2}
    check("check finds nothing that fails", done.returncode == 0 and "fail" not in lines.values())
    for name, here in {"econnrefused": KERNEL >= (5, 18), "kill": has_function("bpf_sock_destroy"), "explain": True,
                       "census": True, "tracing": True}.items():
        check(f"check is right about {name}", lines.get(name) == ("ok" if here else "warn"), lines.get(name))


def start():
    say("title", "start")
    pathlib.Path("/etc/systemd/system/shop.service").write_text(SHOP)
    CONFIG.write_text(MESHD)
    endpoints = pathlib.Path("/etc/meshd/endpoints")
    endpoints.mkdir()
    (endpoints / "cache.json").write_text(json.dumps(ENDPOINTS))
    run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=shop",
        "-days", 30, "-out", "/etc/meshd/shop.crt", "-keyout", "/etc/meshd/shop.key")
    done = run("meshctl", "config", "validate")
    check("the configuration is good", done.returncode == 0, done.stdout.strip())
    start_zone()
    run("systemctl", "enable", "--now", "shop")
    done = run("systemctl", "enable", "--now", "meshd")
    check("systemctl enable --now meshd", done.returncode == 0, last_line(done.stdout))
    done = run("systemctl", "enable", "--now", "meshd-relay")  # configured, so status misses it
    check("systemctl enable --now meshd-relay", done.returncode == 0, last_line(done.stdout))
    expect_healthy("healthy")
    for line in run("systemctl", "status", "--no-pager", "-n", 0, "meshd").stdout.splitlines():
        say("note", line)


def balance():
    say("title", "an unmodified client in shop.service")
    texts = [run("meshctl", "run", "--as", "shop.service", "--", "curl", "-sS", VIP).stdout.strip() for _ in range(6)]
    check("curl is balanced", sorted(texts) == sorted(2 * [f"hello from {server}" for server in SERVERS]), ", ".join(texts))
    done = run("curl", "-sS", "-m", 5, VIP)
    check("outside of shop.service the address does not exist", done.returncode != 0, done.stdout.strip())
    done = run("meshctl", "explain", "orders", "--from", "shop.service")
    check("explain", done.returncode == 0 and "10.0.0.12:8080" in done.stdout, done.stdout.strip())
    check("getpeername() shows the address that was asked for", client("peer", VIP, 80) == [VIP, 80])
    got = client("peer", f"::ffff:{VIP}", 80)
    check("also over an AF_INET6 socket", got == [f"::ffff:{VIP}", 80], json.dumps(got))
    got = client("get", V6, 80, 2)
    check("IPv6", got.get("answers") == {"fd00::11": 2}, json.dumps(got))
    got = client("udp", CACHE, 6379)
    right = all(one.get("peer") == [CACHE, 6379] and one.get("answer", "").endswith(" ping") for one in
                (got.get("connected", {}), got.get("unconnected", {})))
    check("UDP, connected and unconnected", right, json.dumps(got))
    wanted = "ECONNREFUSED" if KERNEL >= (5, 18) else "EPERM"
    got = client("error", EMPTY, 80)
    check(f"a service without endpoints gives {wanted}", got == wanted, json.dumps(got))
    expect_balanced("an address from the registry", [SERVERS[2]], LISTED)


def observe():
    say("title", "what connections experience")
    held = STATE / "held"
    holder = start_client("hold", VIP, 80, held)
    until(held.exists)
    note = json.loads(held.read_text())
    listed = run("meshctl", "connections", "orders", "-o", "wide").stdout
    check("connections lists an open one with its process", str(note["pid"]) in listed and note["server"] in listed, last_line(listed))
    done = run("meshctl", "drain", "orders", f"{note['server']}:8080", "--timeout", "0", "--wait")
    holder.wait(timeout=PATIENCE)
    ended = json.loads(held.read_text())["ended"]
    check("drain resets it", done.returncode == 0 and ended == "ECONNABORTED", f"{ended}; exit {done.returncode}: {last_line(done.stdout)}")
    expect_balanced("a drained endpoint gets nothing", [server for server in SERVERS if server != note["server"]])
    run("meshctl", "drain", "orders", f"{note['server']}:8080", "--undo")
    until(lambda: client("get", VIP, 80, 6).get("answers", {}).keys() == set(SERVERS))
    expect_balanced("drain --undo", SERVERS)
    flows = run("meshctl", "flows", "orders", "-o", "json").stdout
    outcomes = {outcome: flows.count(f'"{outcome}"') for outcome in ("closed", "killed")}
    check("flows know how connections ended", all(outcomes.values()), json.dumps(outcomes))
    say("note", "meshctl flows: " + last_line(run("meshctl", "flows", "orders").stdout))
    done = run("meshctl", "stat", "orders")
    for line in done.stdout.splitlines():
        say("note", line)
    check("stat", done.returncode == 0)


def fail_over():
    say("title", "a server is killed")
    pid = int(pathlib.Path("/run/shop", SERVERS[1]).read_text())
    os.kill(pid, signal.SIGKILL)
    began = time.monotonic()
    rest = [SERVERS[0], SERVERS[2]]
    gone = until(lambda: "down" in run("meshctl", "endpoints", "orders").stdout)
    check("it leaves", gone, f"after {time.monotonic() - began:.1f} s")
    expect_balanced("no request fails after that", rest)
    say("note", run("meshctl", "explain", "orders", "--from", "shop.service").stdout.strip())
    run("systemctl", "restart", "shop")
    expect_healthy("shop.service is restarted, its cgroup made anew: healthy")
    until(lambda: "down" not in run("meshctl", "endpoints", "orders").stdout)
    expect_balanced("all three again", SERVERS)


def main_pid():
    return int(unit("meshd", "MainPID")["MainPID"])


class Loop:
    """Connects in a tight loop meanwhile."""

    def __init__(self, name):
        self.name, self.end = name, STATE / "end"

    def __enter__(self):
        self.end.unlink(missing_ok=True)
        self.process = start_client("loop", VIP, 80, self.end)

    def __exit__(self, kind, *_):
        if kind is None:
            time.sleep(2)
        self.end.touch()
        out = self.process.communicate(timeout=PATIENCE)[0]
        try:
            got = json.loads(out)
        except ValueError:
            got = {"error": out}
        check(f"{self.name}: no connect fails", got.get("attempts", 0) > 0 and not got.get("failures", {"?": 1}), json.dumps(got))


def survive():
    say("title", "the agent is restarted, killed, hung and upgraded under a tight loop of connects")
    with Loop("systemctl restart meshd"):
        before = main_pid()
        check("systemctl restart meshd", run("systemctl", "restart", "meshd").returncode == 0 and main_pid() != before)
    expect_healthy("healthy after the restart")
    with Loop("kill -9"):
        before = main_pid()
        os.kill(before, signal.SIGKILL)
        check("systemd starts it again", until(lambda: main_pid() not in (0, before)
                                               and unit("meshd", "ActiveState")["ActiveState"] == "active"))
    expect_healthy("healthy after kill -9")
    with Loop("SIGSTOP"):
        before = main_pid()
        os.kill(before, signal.SIGSTOP)
        check("systemd's watchdog ends a hung one and starts another", until(lambda: main_pid() not in (0, before)
              and unit("meshd", "ActiveState")["ActiveState"] == "active"), unit("meshd", "NRestarts")["NRestarts"] + " restarts")
    expect_healthy("healthy after the watchdog")
    with Loop("upgrade"):
        before = main_pid()
        done = run("apt-get", "install", "-y", "--reinstall", *HERE.glob("meshd_*.deb"))
        check("the package installed once more restarts the agent", done.returncode == 0 and main_pid() not in (0, before),
              last_line(done.stdout))
    check("the configuration is untouched", CONFIG.read_text() == MESHD)
    expect_healthy("healthy after the upgrade")


def curl_relay():
    return [run("curl", "-sSk", "-m", 20, "https://127.0.0.1:8443/").stdout.strip() for _ in range(6)]


def relay():
    say("title", "meshd-relay.service")
    until(lambda: "hello" in curl_relay()[0])
    got = curl_relay()
    check("curl over TLS is balanced", {f"hello from {server}" for server in SERVERS} == set(got), ", ".join(got))
    pid = unit("meshd-relay", "MainPID")["MainPID"]
    lines = pathlib.Path(f"/proc/{pid}/status").read_text()
    rights = re.search(r"CapEff:\s*(\w+)", lines)[1]
    check("with no right but to bind low ports", int(rights, 16) == 1 << 10, rights)
    check("systemctl restart meshd-relay", run("systemctl", "restart", "meshd-relay").returncode == 0)
    until(lambda: "hello" in curl_relay()[0])
    check("serves after a restart", "hello" in curl_relay()[0])
    run("systemctl", "restart", "meshd")
    check("serves while the agent restarts", all("hello" in text for text in curl_relay()))
    expect_healthy("healthy with the relay")
    exposure = {name: last_line(run("systemd-analyze", "security", "--no-pager", name).stdout) for name in ("meshd", "meshd-relay")}
    say("note", f"systemd-analyze security: {json.dumps(exposure, ensure_ascii=False)}")


# --- stage 2: after a reboot, the registry is away ------------------------------------------------------------------------
def after_reboot():
    say("title", "after a reboot, without the registry")
    check("the kernel is another boot's", STATE.joinpath("boot_id").read_text() != boot_id())
    until(lambda: unit("meshd", "ActiveState")["ActiveState"] == "active")
    check("meshd is active by itself", unit("meshd", "ActiveState")["ActiveState"] == "active")
    until(lambda: "stale" in run("meshctl", "sources").stdout)
    listed = run("meshctl", "sources").stdout
    check("the registry is marked stale", "stale" in listed, last_line(listed))
    say("note", "status: " + status()[1])
    expect_balanced("orders", SERVERS)
    expect_balanced("what the registry said before the reboot", [SERVERS[2]], LISTED)
    until(lambda: "hello" in curl_relay()[0])
    check("the relay serves", all("hello" in text for text in curl_relay()))
    start_zone()
    expect_healthy("the registry is back: healthy by itself")
    CONFIG.write_text(MESHD.replace("balance: round_robin", "balance: roundrobin"))
    until(lambda: status()[0] != 0)
    code, text = status()
    check("a broken configuration is refused with line and column, the last good one stays",
          code == 3 and "meshd.yaml:3:" in text, text)
    expect_balanced("orders", SERVERS)


# --- stage 3: after another, the configuration is broken ------------------------------------------------------------------
def broken_config():
    say("title", "after a reboot with a broken configuration")
    until(lambda: unit("meshd", "ActiveState")["ActiveState"] == "active")
    start_zone()
    expect_balanced("started from the last good state", SERVERS)
    code, text = status()
    check("and says so", code == 3 and "config_from_state" in text, text)
    CONFIG.write_text(MESHD)
    run("systemctl", "reload", "meshd")
    expect_healthy("corrected and reloaded: healthy")


def purge():
    say("title", "purge")
    done = run("apt-get", "purge", "-y", "meshd")
    check("apt purge meshd", done.returncode == 0, last_line(done.stdout))
    left = [path for path in ("/sys/fs/bpf/meshd", "/var/lib/meshd", "/usr/bin/meshd", "/run/meshd") if os.path.exists(path)]
    routes = run("ip", "route", "show", "type", "unreachable").stdout.strip()
    check("nothing is left", not left and not routes, f"{left} {routes}")


def kernel_tests():
    say("title", "the tests of tests/bpf")
    env = os.environ | {"LD_LIBRARY_PATH": str(HERE / "lib")}
    log = STATE / "bpf_tests.log"
    with open(log, "w", encoding="utf-8") as out:
        subprocess.run([HERE / "bpf_tests"], env=env, stdout=out, stderr=subprocess.STDOUT, check=False, cwd=HERE)
    text = log.read_text(encoding="utf-8", errors="replace")
    for line in text[text.rfind("[==========]"):].splitlines():
        say("note", line)
    for block in re.split(r"(?=\[ RUN )", text):
        if "[  FAILED  ]" in block[:8000] and block.startswith("[ RUN"):
            say("note", textwrap.shorten(block, 800))
    check("bpf_tests", "FAILED TEST" not in text and "PASSED" in text)


def boot_id():
    return pathlib.Path("/proc/sys/kernel/random/boot_id").read_text()


STAGES = [[install, requirements, start, balance, observe, fail_over, survive, relay], [after_reboot], [broken_config, purge]]


def main():
    global failed, checked
    STATE.mkdir(exist_ok=True)
    progress = STATE / "progress.json"
    stage, checked, failed = json.loads(progress.read_text()) if progress.exists() else (0, 0, 0)
    steps = [kernel_tests] if (HERE / "bpf_tests").exists() else STAGES[stage]
    for step in steps:
        try:
            step()
        except Exception:
            check(step.__name__, False, traceback.format_exc())
    if failed:
        for name in ("meshd", "meshd-relay"):
            for line in journal(name, 40).splitlines():
                say("note", f"{name}: {line}")
    last = steps[0] is kernel_tests or stage + 1 == len(STAGES)
    progress.write_text(json.dumps([stage + 1, checked, failed]))
    (STATE / "boot_id").write_text(boot_id())
    if last:
        say("end", f"{checked} checks, {failed} failed")
    report.flush()
    os.sync()
    run("systemctl", "poweroff" if last else "reboot")


if __name__ == "__main__":
    sys.exit(main())
