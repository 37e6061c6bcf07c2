#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A server that speaks TLS, of Python's ssl: says its name to whoever comes, then sends back what it gets.

Arguments: NAME CERTIFICATE KEY PORT [CLIENT_CA]. With CLIENT_CA clients have to show a certificate.
"""
import socket
import ssl
import sys
import threading


def serve(connection, context, name):
    try:
        with context.wrap_socket(connection, server_side=True) as tls:
            tls.sendall(f"{name}\n".encode())
            while data := tls.recv(65536):
                tls.sendall(data)
    except OSError as error:
        print(f"{name}: {error}", file=sys.stderr, flush=True)


def main():
    name, certificate, key, port = sys.argv[1:5]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    if len(sys.argv) > 5:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(sys.argv[5])
    with socket.create_server(("::", int(port)), family=socket.AF_INET6, dualstack_ipv6=True) as listener:
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=serve, args=(connection, context, name), daemon=True).start()


main()
