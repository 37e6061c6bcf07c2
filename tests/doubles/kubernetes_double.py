#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A Kubernetes API server, as far as Services, EndpointSlices, Nodes and their watches go, with faults on demand.

  kubernetes_double.py --port PORT [--address ADDRESS] [--certificate FILE --key FILE] [--client-ca FILE] [--token TOKEN]
                       [--restore FILE] [--seed-services N --seed-endpoints M [--seed-flipping F]]

What it does like the real one: lists with limit and continue, watches from a version with bookmarks, timeoutSeconds and
chunked frames, labelSelector, 410 for versions beyond its history (as an ERROR event in a watch, as a status for a
continue token), 504 for versions it does not have yet, discovery, /version, 401 without the token, create, replace,
merge patch and delete with conflicts. Objects are kept as they are given, apart from metadata; there are no controllers.

Below /_control, without token: what tests do to it.
  GET  /_control/state                 version, objects, open watches, requests so far
  POST /_control/faults                {"NAME": VALUE, ...} replaces all faults; {} ends them
  POST /_control/compact               forgets history: older watches get 410
  POST /_control/close                 closes all watches, as a server that restarts does
  POST /_control/bookmark              sends a bookmark to each watch
  POST /_control/restore               body: what /_control/dump said; also of an older state
  GET  /_control/dump                  all objects and the version
  POST /_control/token                 {"token": "..."}: from now on only this one is good
  POST /_control/flip                  {"rate": R, "changes": N, "report": PATH}: of the first F services, one after the
                                       other, the only ready endpoint, 127.0.0.1:19001, gets not ready, or ready again;
                                       PATH gets a line "NUMBER open|closed NANOSECONDS" when a watch was told, with the
                                       time before its first byte, and is closed after the last

Faults:
  hang: true            accepts and never answers
  status: 500           answers lists and watches with this; with retry_after: seconds
  only: "watch"|"list"|"slices"|"services"|"version"   where the faults apply; all that is read if absent
  piece: N, pause: S    bodies in pieces of N bytes, S seconds between them
  cut: N                the body ends after N bytes, the connection with it
  length: N             says Content-Length + N
  garbage: "text"       the body is this
  gone: "status"|"event"  each watch is answered with 410, that way
  end_at_once: true     watches end as soon as they begin
  error_event: CODE     watches say an ERROR event with this code
  expire_continue: true continue tokens are expired
"""
import argparse
import json
import random
import ssl
import sys
import threading
import time
import urllib.parse
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KINDS = {  # plural: kind, group and version, whether it has a namespace
    "services": ("Service", "v1", True),
    "nodes": ("Node", "v1", False),
    "namespaces": ("Namespace", "v1", False),
    "endpointslices": ("EndpointSlice", "discovery.k8s.io/v1", True),
}
HISTORY = 1000  # events kept
BOOKMARK_INTERVAL = 60


def status(code, reason, message, **details):
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message,
            "reason": reason, "details": details, "code": code}


def is_true(text):
    """As Go's ParseBool has it, and in this way API servers."""
    return text in ("1", "t", "T", "true", "True", "TRUE")


def merged(target, patch):
    """JSON merge patch (RFC 7396)."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result


def matches(selector, labels):
    """A label selector: a=b, a==b, a!=b, a, !a, a in (b,c), a notin (b,c)."""
    depth, terms, term = 0, [], ""
    for c in selector:
        depth += (c == "(") - (c == ")")
        if c == "," and depth == 0:
            terms.append(term)
            term = ""
        else:
            term += c
    for term in filter(None, (t.strip() for t in terms + [term])):
        if " notin " in term or " in " in term:
            word = " notin " if " notin " in term else " in "
            key, values = (part.strip() for part in term.split(word, 1))
            found = labels.get(key) in [v.strip() for v in values.strip("()").split(",")]
            good = found == (word == " in ")
        elif "!=" in term:
            key, value = term.split("!=", 1)
            good = labels.get(key.strip()) != value.strip()
        elif "=" in term:
            key, value = term.replace("==", "=").split("=", 1)
            good = labels.get(key.strip()) == value.strip()
        else:
            good = (term.lstrip("!").strip() in labels) != term.startswith("!")
        if not good:
            return False
    return True


class Store:
    """Objects by resource and key, and the events that led to them."""

    def __init__(self):
        self.changed = threading.Condition()
        self.version = 1
        self.oldest = 1  # watches from before have lost events
        self.objects = {plural: {} for plural in KINDS}
        self.events = []  # (version, resource, type, object before, object)
        self.generation = 0  # of the process, as it were: watches of another one end
        self.bookmarks = 0
        self.faults = {}
        self.watches = 0
        self.requests = {}
        self.tokens = {}
        self.flipping = []  # keys of slices
        self.flips = {}  # version -> (number, side), until a watch was told
        self.report = None

    def put(self, plural, item, kind_of_change=None):
        with self.changed:
            kind, version, _ = KINDS[plural]
            meta = item.setdefault("metadata", {})
            key = (meta.get("namespace", ""), meta["name"])
            before = self.objects[plural].get(key)
            self.version += 1
            item["kind"], item["apiVersion"] = kind, version
            meta["resourceVersion"] = str(self.version)
            meta["uid"] = before["metadata"]["uid"] if before else meta.get("uid", str(uuid.uuid4()))
            meta.setdefault("creationTimestamp", "2026-11-20T12:00:00Z")
            meta.setdefault("managedFields", [{"manager": "double", "operation": "Update", "apiVersion": version,
                                               "fieldsType": "FieldsV1", "fieldsV1": {"f:metadata": {"f:name": {}}}}])
            self.objects[plural][key] = item
            self._event(plural, kind_of_change or ("MODIFIED" if before else "ADDED"), before, item)
            return item

    def delete(self, plural, key):
        with self.changed:
            before = self.objects[plural].pop(key, None)
            if before is None:
                return None
            self.version += 1
            last = json.loads(json.dumps(before))
            last["metadata"]["resourceVersion"] = str(self.version)
            self._event(plural, "DELETED", before, last)
            return last

    def _event(self, plural, change, before, item):
        self.events.append((self.version, plural, change, before, item))
        if len(self.events) > HISTORY:
            self.oldest = self.events[-HISTORY][0]
            del self.events[:-HISTORY]
        self.changed.notify_all()

    def compact(self):
        with self.changed:
            self.oldest = self.version + 1
            self.events.clear()
            self.changed.notify_all()

    def close(self):
        with self.changed:
            self.generation += 1
            self.changed.notify_all()

    def dump(self):
        with self.changed:
            return {"version": self.version,
                    "objects": {plural: list(items.values()) for plural, items in self.objects.items()}}

    def restore(self, dump):
        with self.changed:
            self.version = dump["version"]
            self.oldest = self.version
            self.events.clear()
            for plural in KINDS:
                self.objects[plural] = {
                    (o["metadata"].get("namespace", ""), o["metadata"]["name"]): o
                    for o in dump["objects"].get(plural, [])}
            self.tokens.clear()
            self.generation += 1
            self.changed.notify_all()


def seed(store, services, endpoints, flipping):
    for i in range(services):
        name, space = f"service-{i}", f"space-{i % 50}"
        store.put("services", {
            "metadata": {"name": name, "namespace": space, "labels": {"app": name, "mesh": "on"}},
            "spec": {"type": "ClusterIP", "clusterIP": f"10.{96 + i // 65536}.{i // 256 % 256}.{i % 256}",
                     "clusterIPs": [f"10.{96 + i // 65536}.{i // 256 % 256}.{i % 256}"], "ipFamilies": ["IPv4"],
                     "ipFamilyPolicy": "SingleStack", "internalTrafficPolicy": "Cluster", "sessionAffinity": "None",
                     "selector": {"app": name},
                     "ports": [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": 8080}]},
            "status": {"loadBalancer": {}}})
        if i < flipping:
            first = slice_of(name, space, ["127.0.0.1", *(f"10.200.{i}.{j}" for j in range(1, endpoints))])
            first["ports"][0]["port"] = 19001
            for endpoint in first["endpoints"][1:]:
                endpoint["conditions"] = {"ready": False, "serving": False, "terminating": False}
            store.put("endpointslices", first)
            store.flipping.append((space, first["metadata"]["name"]))
            continue
        store.put("endpointslices", slice_of(name, space, [
            f"10.{128 + (i * endpoints + j) // 65536}.{(i * endpoints + j) // 256 % 256}.{(i * endpoints + j) % 256}"
            for j in range(endpoints)]))
    store.compact()


def flip(store, rate, changes, report):
    with open(report, "w", buffering=1) as store.report:
        begin = time.monotonic()
        for i in range(changes):
            time.sleep(max(0, begin + i / rate - time.monotonic()))
            number = i % len(store.flipping)
            with store.changed:
                before = store.objects["endpointslices"][store.flipping[number]]
                first = before["endpoints"][0]
                ready = not first["conditions"]["ready"]
                changed = dict(first, conditions={"ready": ready, "serving": ready, "terminating": False})
                store.flips[store.version + 1] = (number, "open" if ready else "closed")
                store.put("endpointslices", dict(before, metadata=dict(before["metadata"]),
                                                 endpoints=[changed, *before["endpoints"][1:]]))
        end = time.monotonic() + 5
        while store.flips and time.monotonic() < end:
            time.sleep(0.01)


def slice_of(name, space, addresses):
    return {
        "metadata": {"name": f"{name}-x7k2p", "generateName": f"{name}-", "namespace": space,
                     "labels": {"app": name, "kubernetes.io/service-name": name,
                                "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"},
                     "annotations": {"endpoints.kubernetes.io/last-change-trigger-time": "2026-11-20T12:00:00Z"},
                     "ownerReferences": [{"apiVersion": "v1", "kind": "Service", "name": name, "controller": True,
                                          "blockOwnerDeletion": True, "uid": str(uuid.uuid4())}]},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": [{"addresses": [address], "conditions": {"ready": True, "serving": True, "terminating": False},
                       "nodeName": f"worker-{n % 100}.example.internal", "zone": f"zone-{n % 3}",
                       "targetRef": {"kind": "Pod", "namespace": space, "name": f"{name}-5d9c8b7f6-{n:05d}",
                                     "uid": str(uuid.uuid4())}} for n, address in enumerate(addresses)]}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # as a real API server: else a second event within 40 ms waits for the ACK of the first
    server_version = "kubernetes-double"

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.route("GET")

    def do_POST(self):
        self.route("POST")

    def do_PUT(self):
        self.route("PUT")

    def do_PATCH(self):
        self.route("PATCH")

    def do_DELETE(self):
        self.route("DELETE")

    def body(self):
        text = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return json.loads(text) if text.strip() else {}

    @property
    def store(self):
        return self.server.store

    def fault(self, name, where):
        """The value of a fault; `where` is None for what tests themselves say."""
        if where is None:
            return None
        faults = self.store.faults
        only = faults.get("only")
        return faults.get(name) if not only or only in where else None

    def answer(self, code, document, where=(), headers=()):
        text = document if isinstance(document, bytes) else json.dumps(document, separators=(",", ":")).encode()
        garbage = self.fault("garbage", where)
        if garbage is not None:
            text = garbage.encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text) + (self.fault("length", where) or 0)))
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        if self.fault("length", where):
            self.close_connection = True
        self.write(text, where)

    def write(self, data, where):
        cut = self.fault("cut", where)
        if cut is not None:
            self.wfile.write(data[:cut])
            self.wfile.flush()
            self.close_connection = True
            raise ConnectionAbortedError
        piece = self.fault("piece", where) or len(data)
        for at in range(0, len(data), piece or 1):
            self.wfile.write(data[at:at + piece])
            self.wfile.flush()
            if self.fault("pause", where):
                time.sleep(self.fault("pause", where))

    def route(self, method):
        try:
            url = urllib.parse.urlsplit(self.path)
            query = dict(urllib.parse.parse_qsl(url.query, keep_blank_values=True))
            parts = [urllib.parse.unquote(p) for p in url.path.split("/") if p]
            if parts[:1] == ["_control"]:
                return self.control(method, parts[1])
            self.resource(method, parts, query)
        except (ConnectionError, ssl.SSLError):
            self.close_connection = True

    def control(self, method, what):
        store = self.store
        if what == "state":
            with store.changed:
                return self.answer(200, {"version": store.version, "watches": store.watches,
                                         "requests": dict(store.requests),
                                         "objects": {k: len(v) for k, v in store.objects.items()}}, None)
        if what == "dump":
            return self.answer(200, store.dump(), None)
        body = self.body()
        if what == "faults":
            with store.changed:
                store.faults = body
                store.changed.notify_all()
        elif what == "compact":
            store.compact()
        elif what == "close":
            store.close()
        elif what == "bookmark":
            with store.changed:
                store.bookmarks += 1
                store.changed.notify_all()
        elif what == "restore":
            store.restore(body)
        elif what == "token":
            self.server.token = body["token"]
        elif what == "flip":
            threading.Thread(target=flip, args=(store, body["rate"], body["changes"], body["report"]),
                             daemon=True).start()
        else:
            return self.answer(404, {}, None)
        self.answer(200, {}, None)

    def resource(self, method, parts, query):
        where = ["watch" if is_true(query.get("watch")) else "list" if parts[-1:] and parts[-1] in KINDS else
                 "version" if parts == ["version"] else "one"]
        where += [p if p != "endpointslices" else "slices" for p in parts if p in KINDS]
        if method != "GET":
            where = None
        with self.store.changed:
            for name in where or ["write"]:
                self.store.requests[name] = self.store.requests.get(name, 0) + 1
        while self.fault("hang", where):
            with self.store.changed:
                self.store.changed.wait(0.2)
        if self.server.token and self.headers.get("Authorization") != f"Bearer {self.server.token}":
            return self.answer(401, status(401, "Unauthorized", "Unauthorized"))
        broken = self.fault("status", where)
        if broken is not None:
            after = self.fault("retry_after", where)
            return self.answer(broken, status(broken, "Broken", "as was asked for"), (),
                               [("Retry-After", str(after))] if after else [])
        if parts == ["version"]:
            return self.answer(200, {"major": "1", "minor": "31", "gitVersion": "v1.31.0-double", "platform": "double"},
                               where)
        if self.discovery(parts):
            return None
        if parts[:2] == ["api", "v1"]:
            rest, version = parts[2:], "v1"
        elif parts[:1] == ["apis"] and len(parts) > 2:
            rest, version = parts[3:], "/".join(parts[1:3])
        else:
            return self.answer(404, status(404, "NotFound", "the server could not find the requested resource"))
        space = ""
        if rest[:1] == ["namespaces"] and len(rest) > 2:
            space, rest = rest[1], rest[2:]
        plural = rest[0] if rest else ""
        if plural not in KINDS or KINDS[plural][1] != version:
            return self.answer(404, status(404, "NotFound", "the server could not find the requested resource"))
        if len(rest) == 1 and method == "GET":
            if where[0] == "watch":
                return self.watch(plural, space, query, where)
            return self.list(plural, space, query, where)
        return self.one(method, plural, space, rest[1] if len(rest) > 1 else "", where)

    def discovery(self, parts):
        """What kubectl asks before anything else."""
        resources = {"v1": [], "discovery.k8s.io/v1": []}
        for plural, (kind, version, namespaced) in KINDS.items():
            resources[version].append({"name": plural, "singularName": "", "namespaced": namespaced, "kind": kind,
                                       "verbs": ["create", "delete", "get", "list", "update", "watch"]})
        group = {"groupVersion": "discovery.k8s.io/v1", "version": "v1"}
        pages = {
            ("api",): {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []},
            ("apis",): {"kind": "APIGroupList", "apiVersion": "v1", "groups": [
                {"name": "discovery.k8s.io", "versions": [group], "preferredVersion": group}]},
            ("api", "v1"): {"kind": "APIResourceList", "groupVersion": "v1", "resources": resources["v1"]},
            ("apis", "discovery.k8s.io", "v1"): {"kind": "APIResourceList", "apiVersion": "v1",
                                                 "groupVersion": "discovery.k8s.io/v1",
                                                 "resources": resources["discovery.k8s.io/v1"]},
        }
        page = pages.get(tuple(parts))
        if page:
            self.answer(200, page)
        return page is not None

    def chosen(self, plural, space, query):
        selector = query.get("labelSelector", "")
        wanted = dict(p.split("=", 1) for p in query.get("fieldSelector", "").replace("==", "=").split(",") if "=" in p)

        def good(item):
            meta = item["metadata"]
            return ((not space or meta.get("namespace", "") == space) and
                    matches(selector, meta.get("labels") or {}) and
                    wanted.get("metadata.name", meta["name"]) == meta["name"])
        return good

    def list(self, plural, space, query, where):
        store = self.store
        kind, version, _ = KINDS[plural]
        with store.changed:
            token = query.get("continue")
            if token:
                if self.fault("expire_continue", where) or token not in store.tokens:
                    return self.answer(410, status(410, "Expired", "The provided continue parameter is too old"))
                items, at = store.tokens.pop(token)
            else:
                good = self.chosen(plural, space, query)
                items = [item for key, item in sorted(store.objects[plural].items()) if good(item)]
                at = store.version
            limit = int(query.get("limit") or 0)
            meta = {"resourceVersion": str(at)}
            if limit and len(items) > limit:
                meta["continue"] = uuid.uuid4().hex
                meta["remainingItemCount"] = len(items) - limit
                store.tokens[meta["continue"]] = (items[limit:], at)
                items = items[:limit]
            # The items of a real list have neither kind nor apiVersion.
            bare = [{k: v for k, v in item.items() if k not in ("kind", "apiVersion")} for item in items]
            page = json.dumps({"kind": kind + "List", "apiVersion": version, "metadata": meta, "items": bare},
                              separators=(",", ":")).encode()
        self.answer(200, page, where)

    def watch(self, plural, space, query, where):
        store = self.store
        if self.fault("gone", where) == "status":
            return self.answer(410, status(410, "Expired", "too old resource version"))
        with store.changed:
            since = query.get("resourceVersion") or "0"
            if not since.isdigit():
                return self.answer(400, status(400, "BadRequest", f"invalid resource version {since}"))
            at = int(since)
            if at > store.version:
                return self.answer(504, status(504, "Timeout", f"Timeout: Too large resource version: {at}, "
                                                               f"current: {store.version}"))
            generation = store.generation
            first = []
            if at == 0:  # any version: what there is, then what comes
                good = self.chosen(plural, space, query)
                first = [("ADDED", item) for key, item in sorted(store.objects[plural].items()) if good(item)]
                at = store.version
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.flush()
        with store.changed:
            store.watches += 1
        try:
            if not self.fault("end_at_once", where):
                self.stream(plural, space, query, where, at, generation, first)
            if store.generation == generation:
                self.wfile.write(b"0\r\n\r\n")
            else:
                self.close_connection = True
        finally:
            with store.changed:
                store.watches -= 1

    def stream(self, plural, space, query, where, at, generation, first):
        store = self.store
        good = self.chosen(plural, space, query)
        bookmarks = is_true(query.get("allowWatchBookmarks"))
        kind, version, _ = KINDS[plural]
        end = time.monotonic() + float(query.get("timeoutSeconds") or random.uniform(1800, 3600))
        next_bookmark = time.monotonic() + BOOKMARK_INTERVAL if bookmarks else float("inf")
        asked = store.bookmarks

        def frame(change, item):
            text = json.dumps({"type": change, "object": item}, separators=(",", ":")).encode() + b"\n"
            cut = self.fault("cut", where)
            garbage = self.fault("garbage", where)
            if garbage is not None:
                text = garbage.encode()
            if cut is not None:
                self.wfile.write(b"%x\r\n" % len(text) + text[:cut])
                self.wfile.flush()
                raise ConnectionAbortedError
            told = store.flips.pop(int(item["metadata"]["resourceVersion"]), None) if store.flips else None
            begun = time.monotonic_ns()
            size = self.fault("piece", where) or len(text)
            for begin in range(0, len(text), size):
                part = text[begin:begin + size]
                self.wfile.write(b"%x\r\n" % len(part) + part + b"\r\n")
                self.wfile.flush()
                if self.fault("pause", where):
                    time.sleep(self.fault("pause", where))
            if told:
                store.report.write(f"{told[0]} {told[1]} {begun}\n")

        for change, item in first:
            frame(change, item)
        if self.fault("gone", where) == "event":
            return frame("ERROR", status(410, "Expired", f"too old resource version: {at}"))
        if self.fault("error_event", where):
            return frame("ERROR", status(self.fault("error_event", where), "Broken", "as was asked for"))
        while time.monotonic() < end:
            while self.fault("hang", where):
                time.sleep(0.1)
            with store.changed:
                if store.generation != generation:
                    return None
                lost = at + 1 < store.oldest
                news = [e for e in store.events if e[0] > at and e[1] == plural]
                newest = store.version
                if not lost and not news and asked == store.bookmarks and time.monotonic() < next_bookmark:
                    at = newest
                    store.changed.wait(0.5)
                    continue
            if lost:
                return frame("ERROR", status(410, "Expired", f"too old resource version: {at} ({store.oldest})"))
            for _, _, change, before, item in news:
                was = before is not None and good(before)
                now = change != "DELETED" and good(item)
                if was or now:  # what comes to match is new, what no longer does is gone
                    frame("DELETED" if not now else "ADDED" if not was else "MODIFIED", item)
            at = newest
            if bookmarks and (time.monotonic() >= next_bookmark or asked != store.bookmarks):
                asked = store.bookmarks
                next_bookmark = time.monotonic() + BOOKMARK_INTERVAL
                frame("BOOKMARK", {"kind": kind, "apiVersion": version,
                                   "metadata": {"resourceVersion": str(at), "creationTimestamp": None}})
        return None

    def complete(self, service):
        """What the real one fills in when a Service is created."""
        spec = service.setdefault("spec", {})
        spec.setdefault("type", "ClusterIP")
        if "clusterIP" not in spec and spec["type"] != "ExternalName":
            self.server.allocated += 1
            spec["clusterIP"] = f"10.96.{self.server.allocated // 250}.{self.server.allocated % 250 + 1}"
        if spec.get("clusterIP"):
            spec.setdefault("clusterIPs", [spec["clusterIP"]])
        spec.setdefault("ipFamilies", ["IPv4"])
        spec.setdefault("internalTrafficPolicy", "Cluster")
        spec.setdefault("sessionAffinity", "None")
        for port in spec.get("ports", []):
            port.setdefault("protocol", "TCP")
        service.setdefault("status", {"loadBalancer": {}})

    def one(self, method, plural, space, name, where):
        store = self.store
        if method == "POST":
            item = self.body()
            meta = item.setdefault("metadata", {})
            if space:
                meta["namespace"] = space
            if (meta.get("namespace", ""), meta["name"]) in store.objects[plural]:
                return self.answer(409, status(409, "AlreadyExists", f'{plural} "{meta["name"]}" already exists'))
            if plural == "services":
                self.complete(item)
            return self.answer(201, store.put(plural, item))
        found = store.objects[plural].get((space, name))
        if found is None:
            return self.answer(404, status(404, "NotFound", f'{plural} "{name}" not found'))
        if method == "GET":
            return self.answer(200, found, where)
        if method == "DELETE":
            self.body()
            store.delete(plural, (space, name))
            return self.answer(200, {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"})
        item = self.body()
        if method == "PATCH":
            item = merged(found, item)
        given = item.get("metadata", {}).get("resourceVersion")
        if given and given != found["metadata"]["resourceVersion"]:
            return self.answer(409, status(409, "Conflict", "the object has been modified"))
        item["metadata"].update({"namespace": space} if space else {}, name=name)
        return self.answer(200, store.put(plural, item))


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    store = None
    token = ""
    tls = None
    allocated = 0

    def finish_request(self, request, client_address):
        """The handshake happens on the connection's own thread: a slow one is nobody else's trouble."""
        if self.tls:
            request.settimeout(10)
            request = self.tls.wrap_socket(request, server_side=True)
            request.settimeout(None)
        super().finish_request(request, client_address)

    def handle_error(self, request, client_address):
        if not isinstance(sys.exc_info()[1], (OSError, ValueError)):
            super().handle_error(request, client_address)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--address", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--certificate")
    parser.add_argument("--key")
    parser.add_argument("--client-ca")
    parser.add_argument("--token", default="")
    parser.add_argument("--restore")
    parser.add_argument("--seed-services", type=int, default=0)
    parser.add_argument("--seed-endpoints", type=int, default=10)
    parser.add_argument("--seed-flipping", type=int, default=0)
    arguments = parser.parse_args()

    server = Server((arguments.address, arguments.port), Handler)
    server.store = Store()
    server.token = arguments.token
    if arguments.restore:
        with open(arguments.restore) as file:
            server.store.restore(json.load(file))
    seed(server.store, arguments.seed_services, arguments.seed_endpoints, arguments.seed_flipping)
    if arguments.certificate:
        server.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.tls.load_cert_chain(arguments.certificate, arguments.key)
        if arguments.client_ca:
            server.tls.load_verify_locations(arguments.client_ca)
            server.tls.verify_mode = ssl.CERT_REQUIRED
    server.serve_forever()


if __name__ == "__main__":
    main()
