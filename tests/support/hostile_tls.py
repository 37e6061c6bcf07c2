#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Clients that a TLS server must survive: hostile_tls.py HOST PORT NAME CA_FILE. Leaves with 1, and says why, if one got
an answer that it must not get, if it was not sent away, or if an honest client was not served afterwards.
"""
import socket
import ssl
import struct
import sys
import time

HOST, PORT, NAME, CA = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
PATIENCE = 5
SEALED = (21, 23)  # types of records after a handshake: tickets and alerts look like data
CASES = []


def case(function):
    CASES.append(function)
    return function


def connect():
    return socket.create_connection((HOST, PORT), timeout=PATIENCE)


def reset(sock):
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def context(version=None):
    made = ssl.create_default_context(cafile=CA)
    if version is not None:
        made.minimum_version = made.maximum_version = version
    return made


class Client:
    """An honest client whose flights the case sends as it likes."""

    def __init__(self, version=None):
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context(version).wrap_bio(self.incoming, self.outgoing, server_hostname=NAME)
        self.done = False

    def flight(self):
        if not self.done:
            try:
                self.tls.do_handshake()
                self.done = True
            except ssl.SSLWantReadError:
                pass
        return self.outgoing.read()


def read_all(sock):
    """What the server says until it closes or resets; fails if it just keeps the connection."""
    said = b""
    try:
        while True:
            piece = sock.recv(65536)
            if not piece:
                return said
            said += piece
    except ConnectionResetError:
        return said


def refused(sock, what, first=(21, 22)):
    """The server gives up; its first record, if any, is an alert or of the handshake."""
    try:
        said = read_all(sock)
    except TimeoutError:
        raise AssertionError(f"{what}: the server keeps the connection") from None
    if said and said[0] not in first:
        raise AssertionError(f"{what}: the server answered {said[:40]!r}")
    if said and b"HTTP/1.1 200" in said:
        raise AssertionError(f"{what}: the backend was reached")
    sock.close()


def honest(version=None):
    with context(version).wrap_socket(connect(), server_hostname=NAME) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert sock.recv(65536).startswith(b"HTTP/1.1 200"), "an honest client was not served"


def handshaken(version=None):
    client, sock = Client(version), connect()
    sock.sendall(client.flight())
    while not client.done:
        client.incoming.write(sock.recv(65536))
        sock.sendall(client.flight())
    return client, sock


@case
def garbage_before_the_hello():
    for text in (b"GET / HTTP/1.1\r\n\r\n", b"\0" * 64, b"\x80\x2e\x01\x03\x01", bytes(range(256)),
                 b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n"):
        sock = connect()
        sock.sendall(text + Client().flight())
        refused(sock, repr(text[:20]))


@case
def oversized_records():
    for record in (b"\x16\x03\x01\xff\xff" + b"a" * 65535, b"\x16\x03\x01\x48\x01" + b"\x01" * 18433):
        sock = connect()
        try:
            sock.sendall(record)
        except OSError:
            pass
        refused(sock, "a record beyond the limit")
    client, sock = handshaken()
    sock.sendall(b"\x17\x03\x03\x48\x01" + b"z" * 18433)
    refused(sock, "a sealed record beyond the limit", SEALED)
    sock = connect()
    sock.sendall(b"\x16\x03\x01\x00\x00")
    sock.shutdown(socket.SHUT_WR)
    refused(sock, "an empty record")


@case
def truncated_flights():
    hello = Client().flight()
    for size in (0, 1, 4, 5, 6, 43, len(hello) - 1):
        sock = connect()
        sock.sendall(hello[:size])
        sock.shutdown(socket.SHUT_WR)
        refused(sock, f"a hello that ends after {size} bytes")


@case
def reordered_flights():
    client = Client()
    hello = client.flight()
    sock = connect()
    sock.sendall(b"\x17\x03\x03\x00\x20" + b"d" * 32 + hello)
    refused(sock, "data before the hello")
    sock = connect()
    sock.sendall(hello + hello)
    refused(sock, "two hellos")
    sock = connect()
    sock.sendall(hello)
    client.incoming.write(sock.recv(65536))
    last = client.flight()
    sock.sendall(last[6:] + last[:6])
    refused(sock, "the end of the handshake in another order", SEALED)


@case
def damaged_records():
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        client, sock = handshaken(version)
        client.tls.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        record = bytearray(client.outgoing.read())
        record[-1] ^= 1
        sock.sendall(record)
        refused(sock, "a record whose seal is wrong", SEALED)


@case
def replayed_records():
    client, sock = handshaken()
    client.tls.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    record = client.outgoing.read()
    sock.sendall(record + record)
    read_all(sock)


@case
def the_same_ticket_over_and_over():
    shared = context(ssl.TLSVersion.TLSv1_2)
    with shared.wrap_socket(connect(), server_hostname=NAME) as sock:
        session = sock.session
    for _ in range(20):
        with shared.wrap_socket(connect(), server_hostname=NAME, session=session) as sock:
            assert sock.session_reused, "a ticket was not taken"
            sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert sock.recv(65536).startswith(b"HTTP/1.1 200")


@case
def slow_drip():
    """Single bytes are served like any others, and cost little."""
    client, sock = Client(), connect()
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for byte in client.flight():
        sock.sendall(bytes([byte]))
    while not client.done:
        client.incoming.write(sock.recv(65536))
        for byte in client.flight():
            sock.sendall(bytes([byte]))
    client.tls.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    for byte in client.outgoing.read():
        sock.sendall(bytes([byte]))
    answer = b""
    while not answer:
        client.incoming.write(sock.recv(65536))
        try:
            answer = client.tls.read(65536)
        except ssl.SSLWantReadError:
            pass  # tickets
    assert answer.startswith(b"HTTP/1.1 200")
    sock.close()


@case
def resets_at_every_state():
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        for steps in range(8):
            client, sock = Client(version), connect()
            if steps >= 1:
                hello = client.flight()
                sock.sendall(hello[: len(hello) // 2] if steps == 1 else hello)
            if steps >= 3:
                client.incoming.write(sock.recv(65536))
                flight = client.flight()
                sock.sendall(flight[: len(flight) // 2] if steps == 3 else flight)
            if steps >= 5 and client.done:
                client.tls.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                request = client.outgoing.read()
                sock.sendall(request[: len(request) // 2] if steps == 5 else request)
            if steps >= 7:
                sock.recv(16)
            reset(sock)


@case
def silent_clients():
    """Held until the handshake's timeout ends them; the test that starts us sets it to a second."""
    socks = [connect() for _ in range(20)]
    hello = Client().flight()
    for sock in socks[10:]:
        sock.sendall(hello[:50])
    for sock in socks:
        refused(sock, "a client that says nothing more")


@case
def many_at_once():
    socks = []
    for _ in range(200):
        sock = socket.socket(socket.AF_INET6 if ":" in HOST else socket.AF_INET)
        sock.setblocking(False)
        sock.connect_ex((HOST, PORT))
        socks.append(sock)
    time.sleep(0.1)
    for sock in socks:
        reset(sock)


def main():
    for function in CASES:
        name = function.__name__.replace("_", " ")
        try:
            function()
            for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
                honest(version)
        except (AssertionError, OSError) as error:
            print(f"{name}: {error}")
            return 1
        print(f"{name}: served on")
    return 0


if __name__ == "__main__":
    sys.exit(main())
