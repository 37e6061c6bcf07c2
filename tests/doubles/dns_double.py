#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A DNS server over UDP that fails on demand, where a real one can't.

  dns_double.py --address ADDRESS --port PORT --state FILE

FILE is JSON and read for each question: {"names": {"web.example": ["10.0.0.1"]}, "ttl": 1, "mode": MODE}. It answers
questions for A; what it has no addresses for does not exist, what has an empty list has no such record. MODE:
  ok
  slow      answers after 0.2 s
  garbage   answers with bytes that are no message, and with the right id but cut in the middle
  empty     says that there is no such name, whatever is asked
  servfail  says so
"""
import argparse
import json
import os
import socket
import struct
import time

A, OPT = 1, 41
NOERROR, SERVFAIL, NXDOMAIN = 0, 2, 3


def question_of(message):
    """(name, type, end of the question)."""
    labels, at = [], 12
    while message[at]:
        labels.append(message[at + 1:at + 1 + message[at]].decode("ascii"))
        at += 1 + message[at]
    return ".".join(labels).lower(), struct.unpack_from(">H", message, at + 1)[0], at + 5


def answer_to(message, state):
    name, kind, end = question_of(message)
    mode = state.get("mode", "ok")
    known = state["names"].get(name)
    code = SERVFAIL if mode == "servfail" else NXDOMAIN if mode == "empty" or known is None else NOERROR
    addresses = known if code == NOERROR and kind == A else []
    head = message[:2] + struct.pack(">HHHHH", 0x8580 | code, 1, len(addresses), 0, 0)
    records = b"".join(struct.pack(">HHHIH", 0xC00C, A, 1, state.get("ttl", 1), 4) + socket.inet_aton(address)
                       for address in addresses)
    return head + message[12:end] + records


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--address", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=53)
    parser.add_argument("--state", required=True)
    options = parser.parse_args()
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind((options.address, options.port))
    print("ready", flush=True)
    while True:
        message, peer = server.recvfrom(4096)
        with open(options.state) as file:
            state = json.load(file)
        try:
            answer = answer_to(message, state)
        except (IndexError, struct.error, UnicodeDecodeError):
            continue
        if state.get("mode") == "slow":
            time.sleep(0.2)
        if state.get("mode") == "garbage":
            server.sendto(os.urandom(64), peer)
            answer = answer[:len(answer) // 2]
        server.sendto(answer, peer)


if __name__ == "__main__":
    main()
