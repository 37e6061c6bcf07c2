#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What an application does; prints JSON. Every address is that of a service.

  client.py get ADDRESS PORT N          N requests over HTTP: which server answered how often, and failures
  client.py peer ADDRESS PORT           getpeername() of a connection; over an AF_INET6 socket with ::ffff:
  client.py udp ADDRESS PORT            over a connected and over an unconnected socket: answer and sender
  client.py error ADDRESS PORT          the error of connect()
  client.py hold ADDRESS PORT FILE      holds a connection until it breaks; writes what became of it to FILE
  client.py loop ADDRESS PORT FILE      connects in a tight loop until FILE exists; attempts and failures
"""
import collections
import errno
import json
import os
import socket
import sys
import time


def connected(kind, address, port, timeout=20):
    sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind)
    sock.settimeout(timeout)
    try:
        sock.connect((address, port))
    except BaseException:
        sock.close()
        raise
    return sock


def read_answer(sock):
    data = b""
    while b"hello from" not in data or not data.endswith(b"\n"):
        more = sock.recv(4096)
        if not more:
            raise ConnectionError("ended without an answer")
        data += more
    return data.rsplit(b" ", 1)[1].decode().strip()


def request(address, port):
    with connected(socket.SOCK_STREAM, address, port) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: shop\r\n\r\n")
        return read_answer(sock)


def get(address, port, times):
    answers, failures = collections.Counter(), collections.Counter()
    for _ in range(int(times)):
        try:
            answers[request(address, port)] += 1
        except OSError as error:
            failures[str(error)] += 1
    return {"answers": answers, "failures": failures}


def peer(address, port):
    with connected(socket.SOCK_STREAM, address, port) as sock:
        return list(sock.getpeername()[:2])


def udp(address, port):
    with connected(socket.SOCK_DGRAM, address, port) as sock:
        sock.send(b"ping")
        one = {"answer": sock.recv(2048).decode(), "peer": list(sock.getpeername()[:2])}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(20)
        sock.sendto(b"ping", (address, port))
        data, sender = sock.recvfrom(2048)
    return {"connected": one, "unconnected": {"answer": data.decode(), "peer": list(sender)}}


def error(address, port):
    try:
        connected(socket.SOCK_STREAM, address, port, 5).close()
    except OSError as failed:
        return errno.errorcode.get(failed.errno, str(failed))
    return "connected"


def hold(address, port, path):
    with connected(socket.SOCK_STREAM, address, port, 300) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: shop\r\n\r\n")
        where = read_answer(sock)
        note = {"pid": os.getpid(), "server": where}
        for ended in (None, "wait"):
            if ended:
                try:
                    ended = "end of file" if not sock.recv(1) else "data"
                except OSError as failed:
                    ended = errno.errorcode.get(failed.errno, str(failed))
            with open(path + ".new", "w", encoding="utf-8") as file:
                json.dump(note | {"ended": ended}, file)
            os.rename(path + ".new", path)
    return ended


def loop(address, port, path):
    attempts, failures = 0, collections.Counter()
    while not os.path.exists(path):
        attempts += 1
        try:
            connected(socket.SOCK_STREAM, address, port).close()
        except OSError as failed:
            failures[str(failed)] += 1
        time.sleep(0)
    return {"attempts": attempts, "failures": failures}


if __name__ == "__main__":
    command, where, at = sys.argv[1], sys.argv[2], int(sys.argv[3])
    print(json.dumps(globals()[command](where, at, *sys.argv[4:])))
