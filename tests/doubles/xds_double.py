#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""An xDS control plane for tests: aggregated discovery (ADS), state of the world, with faults on demand.

  xds_double.py --listen 127.0.0.1:18000 --control PATH --protos FOLDER [--cert PEM --key PEM [--ca PEM]] [--token TEXT]
                [--state FILE]: {"clusters": ., "endpoints": .} as below, there before it listens

Keeps the rules of real ones: a nonce per answer, requests with an older nonce are ignored, nothing is sent twice, all
clusters in each answer about clusters, of endpoints only what changed or was newly asked for, a new version after a
refusal only (unless `nack_loop`). Needs python3-grpcio, python3-protobuf and protoc.

Control, HTTP on a unix socket:
  PUT /clusters      {"orders": {}, "pay": {"eds": "pay-eds"}, "dns": {"type": 1}, "fixed": {"static": LOCALITIES}}
  PUT /endpoints     {"orders": LOCALITIES}: replaced by name; null takes one away
                     LOCALITIES: [{"zone": "a", "priority": 0, "weight": 1, "endpoints": ["10.0.0.1:80 health=3 weight=2"]}]
  PUT /many          {"clusters": 10000, "endpoints": 10, "flipping": F}: "service-0" and so on; of the first F only the
                     first endpoint is healthy, and is at 127.0.0.1:19001
  PUT /flip          {"clusters": F, "endpoints": 10, "rate": R, "changes": N, "report": PATH}: of the first F, one after
                     the other, the first endpoint gets unhealthy, or healthy again; PATH gets a line "NUMBER open|closed
                     NANOSECONDS" when an answer told that, with the time before its first byte, and is closed at the end
  PUT /fault         {"kind": "hang"}                    takes streams, and says nothing
                     {"kind": "unavailable"}             refuses streams
                     {"kind": "garbage"}                 what is no DiscoveryResponse
                     {"kind": "garbage_resource"}        a resource that is none
                     {"kind": "wrong_type"}              listeners, unasked
                     {"kind": "half"}                    ends each stream after its first answer
                     {"kind": "slow"}                    says all of it two seconds later
                     {"kind": "silent_endpoints"}        says nothing about endpoints
                     {"kind": "nack_loop"}               answers each refusal with the same again
                     {"kind": "duplicate"}               says each resource twice
  DELETE /fault
  PUT /token         {"token": TEXT}: that of --token from now on, for new streams
  POST /drop         ends all streams
  GET /stats         {"streams": ., "open": ., "requests": ., "acks": {TYPE: .}, "nacks": [[TYPE, WHY]], "nodes": [.],
                      "names": {TYPE: [.]}, "tokens": [.], "versions": {TYPE: .}}
"""
import argparse
import collections
import concurrent.futures
import http.server
import json
import os
import queue
import socketserver
import subprocess
import sys
import tempfile
import threading
import time

import grpc

parser = argparse.ArgumentParser()
parser.add_argument("--listen", required=True)
parser.add_argument("--control", required=True)
parser.add_argument("--protos", required=True)
parser.add_argument("--cert")
parser.add_argument("--key")
parser.add_argument("--ca")
parser.add_argument("--token")
parser.add_argument("--state")
parser.add_argument("--first-version", type=int, default=1)
arguments = parser.parse_args()

generated = tempfile.TemporaryDirectory()
subprocess.run(["protoc", "-I", arguments.protos, f"--python_out={generated.name}"] +
               [os.path.join(arguments.protos, "xds/proto", name + ".proto")
                for name in ("core", "status", "discovery", "endpoint", "cluster")], check=True)
sys.path.insert(0, generated.name)
from xds.proto import cluster_pb2, discovery_pb2, endpoint_pb2  # noqa: E402

CLUSTERS = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
ENDPOINTS = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
SHORT = {CLUSTERS: "clusters", ENDPOINTS: "endpoints"}

lock = threading.RLock()
clusters = {}   # name: serialized
endpoints = {}  # name: (serialized, version it is of)
versions = {CLUSTERS: arguments.first_version, ENDPOINTS: arguments.first_version}
streams = set()
fault = {}
report = None  # of flips
closed = set()  # numbers of clusters, by flips
stats = {"streams": 0, "requests": 0, "acks": {"clusters": 0, "endpoints": 0}, "nacks": [], "nodes": [], "names": {},
         "tokens": []}


def assignment(name, localities):
    message = endpoint_pb2.ClusterLoadAssignment(cluster_name=name)
    for one in localities:
        locality = message.endpoints.add(priority=one.get("priority", 0))
        locality.locality.zone = one.get("zone", "")
        if "weight" in one:
            locality.load_balancing_weight.value = one["weight"]
        for text in one["endpoints"]:
            socket, *more = text.split()
            more = {key: int(value) for key, value in (part.split("=") for part in more)}
            endpoint = locality.lb_endpoints.add(health_status=more.get("health", 0))
            address = endpoint.endpoint.address.socket_address
            address.address, port = socket.rsplit(":", 1)
            address.port_value = int(port)
            if "weight" in more:
                endpoint.load_balancing_weight.value = more["weight"]
    return message


def cluster(name, spec):
    message = cluster_pb2.Cluster(name=name, type=spec.get("type", 3))
    if "static" in spec:
        message.type = 0
        message.load_assignment.CopyFrom(assignment(name, spec["static"]))
    elif message.type == 3:
        message.eds_cluster_config.eds_config.ads.SetInParent()
        message.eds_cluster_config.eds_config.resource_api_version = 2
        message.eds_cluster_config.service_name = spec.get("eds", "")
    return message.SerializeToString()


def numbered(number, count, side=None):
    """Endpoints of one of many clusters; with a side only the first may be used, and only if it is open."""
    listed = [f"10.{e + 1}.{number // 250}.{number % 250 + 1}:8080" for e in range(count)]
    if side:
        listed = ["127.0.0.1:19001" + ("" if side == "open" else " health=2"), *(f"{one} health=2" for one in listed[1:])]
    return assignment(f"service-{number}", [{"weight": 1, "endpoints": listed}]).SerializeToString()


class Stream:
    def __init__(self):
        self.wake = queue.Queue()
        self.nonce = {}   # type: of the last answer
        self.names = {}   # type: asked for
        self.asked = {}   # type: the same, as a set
        self.sent = {}    # type: {name: version sent}, clusters under ""
        self.count = 0

    def answer(self, type_url, again=False, changed=None):
        """The next answer about a type, or None: nothing is new. `changed`: what may be, if that is known."""
        if type_url not in self.names:
            return None
        sent = self.sent.setdefault(type_url, {})
        if type_url == CLUSTERS:
            if sent.get("") == versions[CLUSTERS] and not again:
                return None
            sent[""] = versions[CLUSTERS]
            bodies = list(clusters.values())
        else:
            if fault.get("kind") == "silent_endpoints":
                return None
            asked = self.names[type_url] if changed is None else [one for one in changed if one in self.asked[type_url]]
            named = [name for name in asked if name in endpoints]
            fresh = [name for name in named if again or sent.get(name) != endpoints[name][1]]
            if not fresh:
                return None
            for name in fresh:
                sent[name] = endpoints[name][1]
            bodies = [endpoints[name][0] for name in fresh]
        kind = fault.get("kind")
        if kind == "garbage":
            return b"\xff\xff\xff\xff garbage"
        if kind == "garbage_resource":
            bodies = [b"\xff\xff\xff no resource"]
        if kind == "duplicate":
            bodies = bodies * 2
        self.count += 1
        self.nonce[type_url] = f"n{self.count}"
        shown = "type.googleapis.com/envoy.config.listener.v3.Listener" if kind == "wrong_type" else type_url
        message = discovery_pb2.DiscoveryResponse(version_info=str(versions[type_url]), type_url=shown,
                                                  nonce=self.nonce[type_url])
        for body in bodies:
            message.resources.add(type_url=shown, value=body)
        return message.SerializeToString()

    def take(self, request):
        """What is to be said to a request."""
        type_url = request.type_url
        stats["requests"] += 1
        if request.HasField("node"):
            stats["nodes"].append({"id": request.node.id, "cluster": request.node.cluster,
                                   "zone": request.node.locality.zone, "metadata": dict(request.node.metadata)})
        if request.response_nonce and request.response_nonce != self.nonce.get(type_url):
            return None
        again = False
        if request.HasField("error_detail"):
            stats["nacks"].append([SHORT.get(type_url, type_url), request.error_detail.message])
            again = fault.get("kind") == "nack_loop"
        elif request.response_nonce:
            stats["acks"][SHORT.get(type_url, type_url)] += 1
        names = list(request.resource_names)
        if names != self.names.get(type_url):
            for gone in set(self.names.get(type_url, [])) - set(names):
                self.sent.get(type_url, {}).pop(gone, None)
            self.names[type_url] = names
            self.asked[type_url] = set(names)
            stats["names"][SHORT.get(type_url, type_url)] = names
        elif request.response_nonce and not again and type_url == ENDPOINTS:
            return None  # what changes is told when it does
        return self.answer(type_url, again)


def serve(requests, context):
    metadata = dict(context.invocation_metadata())
    with lock:
        stats["tokens"].append(metadata.get("authorization", ""))
        stats["streams"] += 1
    if arguments.token is not None and metadata.get("authorization") != "Bearer " + arguments.token:
        context.abort(grpc.StatusCode.UNAUTHENTICATED, "no such token")
    if fault.get("kind") == "unavailable":
        context.abort(grpc.StatusCode.UNAVAILABLE, "out of order")
    stream = Stream()
    with lock:
        streams.add(stream)

    def read():
        try:
            for request in requests:
                stream.wake.put(request)
        except Exception:  # the client is gone
            pass
        stream.wake.put(None)

    threading.Thread(target=read, daemon=True).start()
    try:
        while True:
            event = stream.wake.get()
            if event is None or event == "drop":
                return
            with lock:
                if fault.get("kind") == "hang":
                    continue
                flipped = None
                if isinstance(event, Flip):
                    answers, flipped = [stream.answer(ENDPOINTS, changed=[event.name])], event
                elif event == "changed":
                    answers = [stream.answer(CLUSTERS), stream.answer(ENDPOINTS)]
                else:
                    answers = [stream.take(event)]
            for answer in answers:
                if answer is not None:
                    if fault.get("kind") == "slow":
                        time.sleep(2)
                    begun = time.monotonic_ns()
                    yield answer
                    if flipped and report:
                        report.write(f"{flipped.number} {flipped.side} {begun}\n")
                    if fault.get("kind") == "half":
                        return
    finally:
        with lock:
            streams.discard(stream)


Flip = collections.namedtuple("Flip", "number name side")


def flip(count, each, rate, changes, path):
    global report
    with open(path, "w", buffering=1) as report:
        begin = time.monotonic()
        for i in range(changes):
            time.sleep(max(0, begin + i / rate - time.monotonic()))
            number = i % count
            closed.symmetric_difference_update({number})
            one = Flip(number, f"service-{number}", "closed" if number in closed else "open")
            with lock:
                versions[ENDPOINTS] += 1
                endpoints[one.name] = (numbered(one.number, each, one.side), versions[ENDPOINTS])
                for stream in streams:
                    stream.wake.put(one)
        time.sleep(5)
        report = None


def change(type_url):
    versions[type_url] += 1
    for stream in streams:
        stream.wake.put("changed")


def set_clusters(said):
    clusters.clear()
    clusters.update({name: cluster(name, spec) for name, spec in said.items()})
    change(CLUSTERS)


def set_endpoints(said):
    for name, localities in said.items():
        if localities is None:
            endpoints.pop(name, None)
        else:
            endpoints[name] = (assignment(name, localities).SerializeToString(), versions[ENDPOINTS] + 1)
    change(ENDPOINTS)


class Control(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def reply(self, value):
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def handle_any(self):
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        what = (self.command, self.path)
        with lock:
            if what == ("PUT", "/clusters"):
                set_clusters(body)
            elif what == ("PUT", "/endpoints"):
                set_endpoints(body)
            elif what == ("PUT", "/many"):
                for i in range(body["clusters"]):
                    name = f"service-{i}"
                    clusters[name] = cluster(name, {})
                    side = "open" if i < body.get("flipping", 0) else None
                    endpoints[name] = (numbered(i, body["endpoints"], side), versions[ENDPOINTS] + 1)
                change(CLUSTERS)
                change(ENDPOINTS)
            elif what == ("PUT", "/flip"):
                threading.Thread(target=flip, daemon=True, args=(body["clusters"], body["endpoints"], body["rate"],
                                                                 body["changes"], body["report"])).start()
            elif what == ("PUT", "/fault"):
                fault.clear()
                fault.update(body)
            elif what == ("DELETE", "/fault"):
                fault.clear()
                for stream in streams:
                    stream.wake.put("changed")
            elif what == ("PUT", "/token"):
                arguments.token = body["token"]
            elif what == ("POST", "/drop"):
                for stream in streams:
                    stream.wake.put("drop")
            elif what != ("GET", "/stats"):
                self.send_error(404)
                return
            self.reply(dict(stats, open=len(streams), versions={SHORT[t]: v for t, v in versions.items()}))

    do_GET = do_PUT = do_DELETE = do_POST = handle_any


class ControlServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True

    def get_request(self):
        request, _ = super().get_request()
        return request, ("control", 0)


handler = grpc.method_handlers_generic_handler(
    "envoy.service.discovery.v3.AggregatedDiscoveryService",
    {"StreamAggregatedResources": grpc.stream_stream_rpc_method_handler(
        serve, request_deserializer=discovery_pb2.DiscoveryRequest.FromString, response_serializer=lambda raw: raw)})
server = grpc.server(concurrent.futures.ThreadPoolExecutor(max_workers=32),
                     options=[("grpc.max_send_message_length", 64 << 20), ("grpc.max_receive_message_length", 64 << 20),
                              ("grpc.so_reuseport", 0),
                              ("grpc.http2.max_ping_strikes", 0)])  # clients may ping as often as they like
server.add_generic_rpc_handlers((handler,))
if arguments.cert:
    pem = [open(path, "rb").read() for path in (arguments.key, arguments.cert)]
    ca = open(arguments.ca, "rb").read() if arguments.ca else None
    bound = server.add_secure_port(arguments.listen, grpc.ssl_server_credentials([tuple(pem)], ca, ca is not None))
else:
    bound = server.add_insecure_port(arguments.listen)
if not bound:
    sys.exit(f"xds_double: can't listen on {arguments.listen}")
if arguments.state:
    with open(arguments.state) as file:
        state = json.load(file)
    set_clusters(state["clusters"])
    set_endpoints(state["endpoints"])
server.start()
ControlServer(arguments.control, Control).serve_forever()
