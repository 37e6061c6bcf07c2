#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A server for HTTP over TCP and an echo over UDP on one address; says which address it is. Several make shop.service.

  shop.py ADDRESS...      a process each; its pid is in /run/shop/ADDRESS
"""
import http.server
import os
import pathlib
import socket
import sys
import threading
import time

PORT = 8080


def serve(address):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            body = f"hello from {address}\n".encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    class Server(http.server.ThreadingHTTPServer):
        address_family = family
        request_queue_size = 1024
        daemon_threads = True

        def server_bind(self):  # without looking up its own name, which takes long where nobody answers
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.socket.bind(self.server_address)

    def echo():
        udp = socket.socket(family, socket.SOCK_DGRAM)
        udp.bind((address, PORT))
        while True:
            data, peer = udp.recvfrom(2048)
            udp.sendto(f"{address} {data.decode()}".encode(), peer)

    server = Server((address, PORT), Handler)
    threading.Thread(target=echo, daemon=True).start()
    server.serve_forever()


if __name__ == "__main__":
    folder = pathlib.Path("/run/shop")
    folder.mkdir(exist_ok=True)
    for each in sys.argv[1:]:
        pid = os.fork()
        if pid == 0:
            serve(each)
            sys.exit(1)
        (folder / each).write_text(str(pid))
    while True:
        time.sleep(3600)  # a server that dies is not missed here: the agent has to notice
