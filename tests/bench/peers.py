# SPDX-License-Identifier: Apache-2.0
"""The others: the ways to balance connections that meshd is compared with, configured as people run them."""
import shutil
import time

from lab import ROOT, BenchError, Lab

BACKENDS = ("10.0.0.1:9001", "10.0.0.1:9002", "10.0.0.1:9003")
CLUSTER_IP = "10.96.0.10"
HAPROXY_AT = "10.0.0.1:8081"
NGINX_AT = "10.0.0.1:8082"
OTHER_SERVICES = 1000  # kube-proxy's maps are hashes, but empty ones would flatter


def require_peers():
    missing = [name for name in ("nft", "haproxy", "nginx") if not shutil.which(name)]
    if missing:
        raise BenchError(f"missing {', '.join(missing)}; run: sudo {ROOT}/scripts/setup --bench")


def kube_proxy_nft(lab: Lab, netns):
    """kube-proxy's nftables rules for one service with three endpoints: the same chains, maps and verdicts in the same
    order (base chain, service map, service chain, numgen over endpoint chains, DNAT), beside 1,000 other services."""
    endpoints = "\n".join(
        f"  chain endpoint-{i} {{ ip saddr 10.0.0.2 jump mark-for-masquerade; "
        f"meta l4proto tcp dnat to {address}; }}" for i, address in enumerate(BACKENDS))
    others = ", ".join(f"10.97.{i // 250}.{i % 250 + 1} . tcp . 80 : goto service-orders" for i in range(OTHER_SERVICES))
    spread = ", ".join(f"{i} : goto endpoint-{i}" for i in range(len(BACKENDS)))
    rules = f"""
table ip kube-proxy {{
  set cluster-ips {{ type ipv4_addr; elements = {{ {CLUSTER_IP} }} }}
  map no-endpoint-services {{ type ipv4_addr . inet_proto . inet_service : verdict; }}
  map firewall-ips {{ type ipv4_addr . inet_proto . inet_service : verdict; }}
  chain mark-for-masquerade {{ meta mark set meta mark or 0x4000; }}
  chain masquerading {{ meta mark & 0x4000 == 0 return; meta mark set meta mark xor 0x4000; masquerade fully-random; }}
{endpoints}
  chain service-orders {{
    ip daddr {CLUSTER_IP} tcp dport 80 ip saddr != 10.0.0.0/8 jump mark-for-masquerade
    numgen random mod {len(BACKENDS)} vmap {{ {spread} }}
  }}
  map service-ips {{
    type ipv4_addr . inet_proto . inet_service : verdict;
    elements = {{ {CLUSTER_IP} . tcp . 80 : goto service-orders, {others} }}
  }}
  chain services {{ ip daddr . meta l4proto . th dport vmap @service-ips; }}
  chain service-endpoints-check {{ ip daddr . meta l4proto . th dport vmap @no-endpoint-services; }}
  chain firewall-check {{ ip daddr . meta l4proto . th dport vmap @firewall-ips; }}
  chain cluster-ips-check {{ ip daddr @cluster-ips reject; }}
  chain nat-output {{ type nat hook output priority -100; jump services; }}
  chain nat-postrouting {{ type nat hook postrouting priority 100; jump masquerading; }}
  chain filter-output-pre-dnat {{ type filter hook output priority -110; ct state new jump firewall-check; }}
  chain filter-output {{
    type filter hook output priority 0;
    ct state new jump service-endpoints-check
    ct state new jump cluster-ips-check
  }}
}}
"""
    path = lab.folder / "kube-proxy.nft"
    path.write_text(rules)
    lab.inside(netns, "ip", "route", "add", "10.96.0.0/15", "dev", "lo", "src", "10.0.0.1")
    lab.inside(netns, "nft", "-f", path)
    return f"{CLUSTER_IP}:80"


def haproxy(lab: Lab, netns, cpu):
    servers = "\n".join(f"  server s{i} {address}" for i, address in enumerate(BACKENDS))
    path = lab.folder / "haproxy.cfg"
    path.write_text(f"""global
  nbthread 1
  maxconn 4000
defaults
  mode tcp
  timeout connect 5s
  timeout client 30s
  timeout server 30s
listen orders
  bind {HAPROXY_AT} backlog 4096
  balance roundrobin
{servers}
""")
    lab.start("haproxy", "-db", "-f", path, netns=netns, cpu=cpu, log="haproxy.log")
    return HAPROXY_AT


def nginx(lab: Lab, netns, cpu):
    servers = "\n".join(f"    server {address};" for address in BACKENDS)
    path = lab.folder / "nginx.conf"
    path.write_text(f"""daemon off;
master_process off;
worker_processes 1;
pid {lab.folder}/nginx.pid;
error_log /dev/null crit;
load_module modules/ngx_stream_module.so;
events {{ worker_connections 8000; }}
stream {{
  upstream orders {{
{servers}
  }}
  server {{ listen {NGINX_AT} backlog=4096; proxy_pass orders; }}
}}
""")
    lab.start("nginx", "-c", path, "-p", "/usr/share/nginx", netns=netns, cpu=cpu, log="nginx.log")
    return NGINX_AT


def wait_listening(lab: Lab, netns, *addresses, timeout=10):
    """Until all addresses have a listener."""
    deadline = time.monotonic() + timeout
    while True:
        listening = lab.inside(netns, "ss", "-Hltn")
        missing = [address for address in addresses if address not in listening]
        if not missing:
            return
        if time.monotonic() > deadline:
            raise BenchError(f"nothing listens at {', '.join(missing)} after {timeout} s")
        time.sleep(0.02)
