#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""gRPC peers for the tests of the xDS server: Python's gRPC has a whole xDS client.

  xds_peer.py serve ADDRESS NAME    answers every call with NAME
  xds_peer.py loop TARGET           calls TARGET every 20 ms (GRPC_XDS_BOOTSTRAP says where the server is): a line each,
                                    with who answered or "failed: STATUS"
  xds_peer.py deaf SERVER PROTOS    asks SERVER for all clusters and refuses every answer ("I don't like it"): a line each
"""
import concurrent.futures
import subprocess
import sys
import tempfile
import time

import grpc

METHOD = "/test.Who/Ask"


def serve(address, name):
    handler = grpc.unary_unary_rpc_method_handler(lambda request, context: name.encode())
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(max_workers=8))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Who", {"Ask": handler}),))
    if not server.add_insecure_port(address):
        sys.exit(f"can't listen on {address}")
    server.start()
    server.wait_for_termination()


def loop(target):
    with grpc.insecure_channel(target) as channel:
        ask = channel.unary_unary(METHOD)
        while True:
            try:
                print(ask(b"", timeout=5, wait_for_ready=False).decode(), flush=True)
            except grpc.RpcError as error:
                print(f"failed: {error.code().name}: {error.details()}", flush=True)
            time.sleep(0.02)


def deaf(server, protos):
    generated = tempfile.mkdtemp()
    subprocess.run(["protoc", "-I", protos, f"--python_out={generated}"] +
                   [f"{protos}/xds/proto/{name}.proto" for name in ("core", "status", "discovery")], check=True)
    sys.path.insert(0, generated)
    from xds.proto import discovery_pb2

    url = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
    answers = []

    def requests():
        first = discovery_pb2.DiscoveryRequest(type_url=url)
        first.node.id = "deaf"
        yield first
        said = 0
        while True:
            if said == len(answers):
                time.sleep(0.01)
                continue
            request = discovery_pb2.DiscoveryRequest(type_url=url, response_nonce=answers[said].nonce)
            request.error_detail.code = 3
            request.error_detail.message = "I don't like it"
            said += 1
            yield request

    with grpc.insecure_channel(server) as channel:
        stream = channel.stream_stream(
            "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources",
            request_serializer=discovery_pb2.DiscoveryRequest.SerializeToString,
            response_deserializer=discovery_pb2.DiscoveryResponse.FromString)
        for answer in stream(requests()):
            answers.append(answer)
            print(answer.version_info, flush=True)


{"serve": serve, "loop": loop, "deaf": deaf}[sys.argv[1]](*sys.argv[2:])
