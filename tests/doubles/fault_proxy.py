#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Stands before a real TCP server that can't fail on demand.

  fault_proxy.py --listen ADDRESS:PORT --to ADDRESS:PORT --mode FILE

FILE is read for each piece that passes: "pass", "slow" (what comes back is half a second late) or "garbage" (what comes
back is random bytes).
"""
import argparse
import asyncio
import os


async def pump(reader, writer, change):
    try:
        while piece := await reader.read(1 << 16):
            writer.write(await change(piece))
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


async def as_it_is(piece):
    return piece


async def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--listen", required=True)
    parser.add_argument("--to", required=True)
    parser.add_argument("--mode", required=True)
    options = parser.parse_args()

    async def back(piece):
        with open(options.mode) as file:
            mode = file.read().strip()
        if mode == "slow":
            await asyncio.sleep(0.5)
        return os.urandom(len(piece)) if mode == "garbage" else piece

    async def serve(reader, writer):
        host, port = options.to.rsplit(":", 1)
        try:
            server_reader, server_writer = await asyncio.open_connection(host, int(port))
        except OSError:
            writer.close()
            return
        await asyncio.gather(pump(reader, server_writer, as_it_is), pump(server_reader, writer, back))

    host, port = options.listen.rsplit(":", 1)
    await asyncio.start_server(serve, host, int(port))
    print("ready", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
