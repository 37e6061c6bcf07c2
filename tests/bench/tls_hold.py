# SPDX-License-Identifier: Apache-2.0
"""tls_hold.py HOST PORT COUNT: opens so many TLS connections, says "ready", and holds them until its input ends."""
import resource
import socket
import ssl
import sys

host, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
_, most = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
context = ssl.create_default_context()
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
held = []
for _ in range(count):
    held.append(context.wrap_socket(socket.create_connection((host, port)), server_hostname="bench.test"))
print("ready", flush=True)
sys.stdin.read()
