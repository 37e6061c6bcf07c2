#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Plays another node's relay: one connection of the mesh, with Python's own TLS.

  mesh_peer.py HOST:PORT IDENTITY_FOLDER CA_FILE SERVICE DESTINATION TEXT [--alpn NAME] [--hold SECONDS]

Prints the answering relay's identity and its reply, "spiffe://... 0", and then what came after TEXT was sent and the
connection half-closed; or "refused: WHY". With --hold prints "held" at once and waits for the other side to end.
"""
import argparse
import ipaddress
import socket
import ssl
import struct
import subprocess
import sys


def proxy_header(service, destination):
    host, port = destination.rsplit(":", 1)
    values = b"\xe0" + struct.pack("!H", len(service)) + service.encode()
    addresses = ipaddress.ip_address("10.9.9.9").packed + ipaddress.ip_address(host).packed
    body = addresses + struct.pack("!HH", 4711, int(port)) + values
    return b"\r\n\r\n\0\r\nQUIT\n\x21\x11" + struct.pack("!H", len(body)) + body


def uri_of(certificate):
    text = subprocess.run(["openssl", "x509", "-inform", "der", "-noout", "-ext", "subjectAltName"], input=certificate,
                          capture_output=True, check=True).stdout.decode()
    return text.split("URI:")[1].split()[0]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("where")
    parser.add_argument("identity")
    parser.add_argument("ca")
    parser.add_argument("service")
    parser.add_argument("destination")
    parser.add_argument("text")
    parser.add_argument("--alpn", default="meshd/1")
    parser.add_argument("--hold", type=float)
    args = parser.parse_args()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.load_verify_locations(args.ca)
    context.load_cert_chain(args.identity + "/tls.crt", args.identity + "/tls.key")
    context.set_alpn_protocols([args.alpn])
    host, port = args.where.rsplit(":", 1)
    try:
        with socket.create_connection((host, int(port)), timeout=5) as plain, \
                context.wrap_socket(plain, suppress_ragged_eofs=False) as tls:
            tls.sendall(proxy_header(args.service, args.destination))
            reply = tls.recv(1)
            print(uri_of(tls.getpeercert(True)), reply[0] if reply else "nothing", flush=True)
            if reply != b"\0":
                return 1
            if args.hold:
                print("held", flush=True)
                tls.settimeout(args.hold)
                return 0 if tls.recv(1) else 3
            tls.sendall(args.text.encode())
            got = b""
            while chunk := tls.recv(65536):
                got += chunk
                if got.endswith(b"\n"):
                    break
            print(got.decode().strip())
            return 0
    except (ssl.SSLError, OSError) as error:
        print("refused:", getattr(error, "reason", None) or error)
        return 2


sys.exit(main())
