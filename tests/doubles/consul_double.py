#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A Consul agent for tests: the parts of its HTTP API that clients of services use, with the real rules and with faults.

  tests/doubles/consul_double.py --port 8500 --control PATH [--cert FILE --key FILE [--client-ca FILE]] [--unix PATH]
                                 [--acl deny]

It says "ready PORT" when it listens. Rules kept as the real one has them: one index for all writes and
per service; blocking queries that return after their wait plus up to a sixteenth, also without a change, and wait for
an index that lies ahead; index 0 and negative ones; X-Consul-* headers; the limit of connections per client; tokens
that see a part, with answers that say they were filtered; maintenance as critical checks of known names; default
weights; the agent's own registrations on its own node.

Faults and bulk data come by HTTP over the control socket, which is never disturbed:

  PUT /fault    {"kind": KIND, "path": "/v1/health", "count": 3, ...}  for reads whose path begins so; count -1: always
                hang | slow (seconds) | half | wrong_length | garbage | cut (at: bytes of the whole answer) | status
                (status, body, headers) | no_leader | reset_index (to) | contact (ms, leader) | drop_header | empty
  DELETE /fault                            ends all faults
  PUT /load     {"services": N, "instances": M, "prefix": "s", "network": "10.0.0.0/8", "flipping": F}  replaces what is
                registered; of the first F services only instance 0 has a weight, and is at 127.0.0.1:19001
  PUT /flip     {"services": F, "rate": R, "changes": N, "report": PATH}  of the first F services, one after the other,
                the check of instance 0 gets critical, or passing again; PATH gets a line "NUMBER open|closed NANOSECONDS"
                when an answer told that, with the time before its first byte, and is closed after the last
  PUT /touch    {"service": NAME, "instance": I, "status": "critical"}  one check, as a health check would
  PUT /weigh    {"service": NAME, "instance": I, "weight": W}  registers one with another weight
  PUT /churn    {"rate": R, "services": N}  registers that many changes of weights a second; 0 ends it
  PUT /save, PUT /restore                  remember the state, and return to it with its older indexes
  PUT /clear                               nothing is registered, indexes begin anew
  PUT /token    {"secret": S, "services": ["prefix"], "nodes": true}    null instead of services: unknown from now on
  PUT /limit    {"connections": 200}
  GET /stats    {"requests": N, "connections": N, "peak_connections": N, "blocking": N, "paths": {...}, "index": N}
"""
import argparse
import asyncio
import copy
import ipaddress
import json
import random
import re
import ssl
import sys
import time
import urllib.parse

NODE = "double"
TRUE, FALSE = ("1", "t", "T", "TRUE", "true", "True"), ("0", "f", "F", "FALSE", "false", "False")
MAX_WAIT = 600.0
DEFAULT_WAIT = 300.0


class Store:
    """What is registered. An entry of a service keeps its JSON text until it changes."""

    def __init__(self):
        self.index = 1
        self.nodes = {}  # name -> {"Address", "Meta", "Checks": {id: check}, "Index"}
        self.services = {}  # name -> {(node, id): {"Service", "Checks": {id: check}, "text"}}
        self.service_index = {}  # name -> index of its last change
        self.names = {}  # (node, id) -> name of the service
        self.extinction_index = 1
        self.table_index = {"nodes": 1, "services": 1, "checks": 1}
        self.failing = {}  # (node, id) -> check, of services and not passing

    def write(self, *tables):
        self.index += 1
        for table in tables:
            self.table_index[table] = self.index
        return self.index

    def node(self, name, address, meta=None, tagged=None):
        node = self.nodes.get(name)
        if node is None or (node["Address"], node["Meta"]) != (address, meta or {}):
            index = self.write("nodes")
            old = node or {"Checks": {}}
            self.nodes[name] = {"Address": address, "Meta": meta or {}, "TaggedAddresses": tagged or {},
                                "Checks": old["Checks"], "Index": index}
            self.touch_node(name, index)

    def touch_node(self, name, index):
        for service, entries in self.services.items():
            for key, entry in entries.items():
                if key[0] == name:
                    entry["text"] = None
                    self.service_index[service] = index

    def register(self, node, service):
        name = service["Service"]
        entries = self.services.setdefault(name, {})
        old = entries.get((node, service["ID"]))
        if old is not None and old["Plain"] == service:
            return
        index = self.write("services")
        full = dict(service, CreateIndex=old["Service"]["CreateIndex"] if old else index, ModifyIndex=index)
        entries[(node, service["ID"])] = {"Service": full, "Plain": service, "Checks": old["Checks"] if old else {},
                                          "text": None}
        self.names[(node, service["ID"])] = name
        self.service_index[name] = index

    def deregister(self, node, service_id):
        name = self.names.pop((node, service_id), None)
        if name is None:
            return False
        entries = self.services[name]
        for check_id in entries[(node, service_id)]["Checks"]:
            self.failing.pop((node, check_id), None)
        del entries[(node, service_id)]
        index = self.write("services", "checks")
        if entries:
            self.service_index[name] = index
        else:
            del self.services[name]
            del self.service_index[name]
            self.extinction_index = index
        return True

    def set_check(self, node, check):
        """A check of a service, or of the node when it has no ServiceID."""
        if not check.get("ServiceID"):
            old = self.nodes[node]["Checks"].get(check["CheckID"])
            if old == check:
                return
            self.nodes[node]["Checks"][check["CheckID"]] = check
            self.touch_node(node, self.write("checks"))
            return
        name = self.names.get((node, check["ServiceID"]))
        if name is None:
            raise HttpError(500, f"Missing service '{check['ServiceID']}' registration")
        entry = self.services[name][(node, check["ServiceID"])]
        check = dict(check, ServiceName=name, ServiceTags=entry["Service"]["Tags"])
        if entry["Checks"].get(check["CheckID"]) != check:
            entry["Checks"][check["CheckID"]] = check
            entry["text"] = None
            self.service_index[name] = self.write("checks")
            if check["Status"] == "passing":
                self.failing.pop((node, check["CheckID"]), None)
            else:
                self.failing[(node, check["CheckID"])] = check

    def remove_check(self, node, check_id):
        self.failing.pop((node, check_id), None)
        checks = self.nodes.get(node, {"Checks": {}})["Checks"]
        if checks.pop(check_id, None) is not None:
            self.touch_node(node, self.write("checks"))
        for name, entries in self.services.items():
            for key, entry in entries.items():
                if key[0] == node and entry["Checks"].pop(check_id, None) is not None:
                    entry["text"] = None
                    self.service_index[name] = self.write("checks")

    def remove_node(self, name):
        for service, entries in list(self.services.items()):
            for key in [key for key in entries if key[0] == name]:
                self.deregister(*key)
        if self.nodes.pop(name, None) is not None:
            self.write("nodes", "checks")

    def index_of(self, service):
        """As the real one: its own index, or for what is not there when a service went last."""
        return self.service_index.get(service, self.extinction_index)

    def entry_text(self, key, entry):
        if entry["text"] is None:
            node = self.nodes[key[0]]
            entry["text"] = json.dumps({
                "Node": {"ID": "", "Node": key[0], "Address": node["Address"], "Datacenter": "dc1",
                         "TaggedAddresses": node["TaggedAddresses"], "Meta": node["Meta"],
                         "CreateIndex": node["Index"], "ModifyIndex": node["Index"]},
                "Service": entry["Service"],
                "Checks": list(node["Checks"].values()) + list(entry["Checks"].values())})
        return entry["text"]


def service_of(body, address_key="Address"):
    """The service as Consul keeps it, from a registration."""
    weights = body.get("Weights") or {}
    return {"ID": body.get("ID") or body.get("Name") or body.get("Service"),
            "Service": body.get("Name") or body.get("Service"), "Tags": body.get("Tags") or [],
            "Address": body.get(address_key) or "", "Port": body.get("Port") or 0, "Meta": body.get("Meta") or {},
            "TaggedAddresses": body.get("TaggedAddresses") or {}, "Kind": body.get("Kind") or "",
            "SocketPath": body.get("SocketPath") or "",
            "Weights": {"Passing": weights.get("Passing", 1), "Warning": weights.get("Warning", 1)},
            "EnableTagOverride": False, "Proxy": {"Mode": ""}, "Connect": {}}


def check_of(node, check_id, status, service_id="", name="", output=""):
    return {"Node": node, "CheckID": check_id, "Name": name or check_id, "Status": status, "Notes": "",
            "Output": output, "ServiceID": service_id, "ServiceName": "", "ServiceTags": [], "Type": "ttl"}


KEYS = {key.lower(): key for key in (
    "ID Name Service Tags Address Port Meta TaggedAddresses Kind SocketPath Weights Passing Warning Check Checks CheckID "
    "Status TTL Node NodeMeta ServiceID Notes Output").split()}


def canonical(body):
    """Keys in any case, as Go reads them; those of metadata stay."""
    if isinstance(body, list):
        return [canonical(item) for item in body]
    if not isinstance(body, dict):
        return body
    result = {}
    for key, value in body.items():
        name = KEYS.get(key.lower(), key)
        result[name] = value if name in ("Meta", "NodeMeta") else canonical(value)
    return result


class HttpError(Exception):
    def __init__(self, status, text, headers=None):
        super().__init__(text)
        self.status, self.text, self.headers = status, text, headers or {}


class Double:
    def __init__(self, options):
        self.options = options
        self.store = Store()
        self.store.node(NODE, options.node_address)
        self.store.set_check(NODE, check_of(NODE, "serfHealth", "passing", name="Serf Health Status"))
        self.saved = None
        self.tokens = {}
        self.faults = []
        self.changed = asyncio.Condition()
        self.limit = 200
        self.connections = {}
        self.stats = {"requests": 0, "peak_connections": 0, "refused_connections": 0, "paths": {}}
        self.blocking = 0
        self.churner = None
        self.flipping = {}  # path of an answer -> (number, side that was told last)
        self.report = None

    async def notify(self):
        async with self.changed:
            self.changed.notify_all()

    # --- what a token may see -------------------------------------------------------------------------------------
    def rights(self, headers, query):
        secret = headers.get("x-consul-token") or query.get("token", "")
        if not secret and headers.get("authorization", "").lower().startswith("bearer "):
            secret = headers["authorization"][7:]
        if secret in self.tokens:
            return self.tokens[secret]
        if secret:
            raise HttpError(403, "ACL not found")
        if self.options.acl == "deny":
            return {"services": [], "nodes": False}
        return {"services": [""], "nodes": True}

    @staticmethod
    def sees(rights, service):
        return any(service.startswith(prefix) for prefix in rights["services"])

    # --- reads ----------------------------------------------------------------------------------------------------
    def read_catalog(self, rights, query):
        names, filtered = {}, False
        for name, entries in self.store.services.items():
            if not (self.sees(rights, name) and rights["nodes"]):
                filtered = True
                continue
            names[name] = sorted({tag for entry in entries.values() for tag in entry["Service"]["Tags"]})
        if self.sees(rights, "consul"):
            names["consul"] = []
        return json.dumps(names), filtered

    def read_health(self, name, rights, query):
        entries = self.store.services.get(name, {})
        seen = self.sees(rights, name) and rights["nodes"]
        texts = []
        for key, entry in entries.items():
            if not seen:
                continue
            checks = list(self.store.nodes[key[0]]["Checks"].values()) + list(entry["Checks"].values())
            if "passing" in query and any(check["Status"] != "passing" for check in checks):
                continue
            if "tag" in query and query["tag"] not in entry["Service"]["Tags"]:
                continue
            texts.append(self.store.entry_text(key, entry))
        return "[" + ",".join(texts) + "]", bool(entries) and not seen

    def read_checks(self, state, rights, query):
        wanted = re.fullmatch(r'Status != "(\w+)"', query.get("filter", ""))
        checks, filtered = [], False
        for node in self.store.nodes.values():
            checks += node["Checks"].values()
        only_failing = "" in rights["services"] and (
            state not in ("any", "passing") or (wanted and wanted.group(1) == "passing"))
        if only_failing:
            checks += self.store.failing.values()
        for name, entries in () if only_failing else self.store.services.items():
            if not self.sees(rights, name):
                filtered = True
                continue
            for entry in entries.values():
                checks += entry["Checks"].values()
        if state != "any":
            checks = [check for check in checks if check["Status"] == state]
        if wanted:
            checks = [check for check in checks if check["Status"] != wanted.group(1)]
        return json.dumps(checks), filtered

    def read_service_nodes(self, name, rights, query):
        nodes = []
        for key, entry in self.store.services.get(name, {}).items():
            service = entry["Service"]
            nodes.append({"Node": key[0], "Address": self.store.nodes[key[0]]["Address"], "ServiceID": service["ID"],
                          "ServiceName": name, "ServiceAddress": service["Address"], "ServicePort": service["Port"],
                          "ServiceTags": service["Tags"], "ServiceMeta": service["Meta"]})
        return json.dumps(nodes), False

    def reader(self, path):
        """A function for the body, and one for the index, which costs nothing."""
        if path == "/v1/catalog/services":
            return self.read_catalog, lambda: self.store.table_index["services"]
        for prefix, function in (("/v1/health/service/", self.read_health),
                                 ("/v1/health/state/", self.read_checks),
                                 ("/v1/catalog/service/", self.read_service_nodes)):
            if path.startswith(prefix) and len(path) > len(prefix):
                name = urllib.parse.unquote(path[len(prefix):])
                index = (lambda: self.store.table_index["checks"]) if "state" in prefix else (
                    lambda: self.store.index_of(name))
                return lambda rights, query: function(name, rights, query), index
        return None

    @staticmethod
    def wait_of(query):
        text = query.get("wait", "")
        match = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m|h)", text)
        if text and not match:
            raise HttpError(400, "Invalid wait time")
        units = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}
        wait = float(match.group(1)) * units[match.group(2)] if match else DEFAULT_WAIT
        wait = min(wait, MAX_WAIT) or DEFAULT_WAIT
        return wait + random.uniform(0, wait / 16)

    @staticmethod
    def index_asked(query):
        text = query.get("index", "")
        if not text:
            return 0
        if not text.isdigit() or int(text) >= 1 << 64:
            raise HttpError(400, "Invalid index")
        return int(text)

    async def read(self, reader, headers, query, fault):
        read, index = reader
        self.rights(headers, query)
        asked = self.index_asked(query)
        end = time.monotonic() + self.wait_of(query)
        if "stale" in query and "consistent" in query:
            raise HttpError(400, "Cannot specify ?stale with ?consistent, conflicting semantics.")
        if asked:
            self.blocking += 1
            try:
                while index() <= asked and fault != "reset_index" and time.monotonic() < end:
                    async with self.changed:
                        try:
                            await asyncio.wait_for(self.changed.wait(), end - time.monotonic())
                        except asyncio.TimeoutError:
                            break
                    self.rights(headers, query)
            finally:
                self.blocking -= 1
        index = index()
        body, filtered = read(self.rights(headers, query), query)
        answer = {"X-Consul-Index": str(max(index, 1)), "X-Consul-KnownLeader": "true", "X-Consul-LastContact": "0",
                  "X-Consul-Effective-Consistency": "stale" if "stale" in query else "leader"}
        if filtered:
            answer["X-Consul-Results-Filtered-By-ACLs"] = "true"
        return body, answer

    # --- writes ---------------------------------------------------------------------------------------------------
    def write(self, path, query, body):
        store, parts = self.store, path.split("/")[2:]
        if path == "/v1/agent/service/register":
            service = service_of(body)
            store.register(NODE, service)
            checks = list(body.get("Checks") or []) + ([body["Check"]] if body.get("Check") else [])
            for number, check in enumerate(checks, 1):
                default = f"service:{service['ID']}" + (f":{number}" if len(checks) > 1 else "")
                store.set_check(NODE, check_of(NODE, check.get("CheckID") or check.get("ID") or default,
                                               check.get("Status") or "critical", service["ID"],
                                               check.get("Name", "")))
        elif parts[:3] == ["agent", "service", "deregister"]:
            if not store.deregister(NODE, urllib.parse.unquote(parts[3])):
                raise HttpError(404, f'Unknown service ID "{parts[3]}"')
        elif parts[:3] == ["agent", "service", "maintenance"]:
            service_id = urllib.parse.unquote(parts[3])
            self.maintain(f"_service_maintenance:{service_id}", service_id, query)
        elif parts[:2] == ["agent", "maintenance"]:
            self.maintain("_node_maintenance", "", query)
        elif parts[:2] == ["agent", "check"] and parts[2] in ("pass", "warn", "fail"):
            status = {"pass": "passing", "warn": "warning", "fail": "critical"}[parts[2]]
            check_id = urllib.parse.unquote("/".join(parts[3:]))
            if not self.update_check(check_id, status, query.get("note", "")):
                raise HttpError(404, f'Unknown check ID "{check_id}"')
        elif path == "/v1/catalog/register":
            if "Node" not in body or "Address" not in body:
                raise HttpError(400, "Must provide node and address")
            store.node(body["Node"], body["Address"], body.get("NodeMeta"), body.get("TaggedAddresses"))
            if body.get("Service"):
                store.register(body["Node"], service_of(body["Service"]))
            for check in list(body.get("Checks") or []) + ([body["Check"]] if body.get("Check") else []):
                store.set_check(body["Node"], check_of(body["Node"], check.get("CheckID") or check.get("Name"),
                                                       check.get("Status", "critical"), check.get("ServiceID", ""),
                                                       check.get("Name", "")))
            return "true"
        elif path == "/v1/catalog/deregister":
            if body.get("ServiceID"):
                store.deregister(body["Node"], body["ServiceID"])
            elif body.get("CheckID"):
                store.remove_check(body["Node"], body["CheckID"])
            else:
                store.remove_node(body["Node"])
            return "true"
        else:
            raise HttpError(404, "Invalid URL path: not a recognized HTTP API endpoint")
        return ""

    def maintain(self, check_id, service_id, query):
        enable = query.get("enable", "")
        if enable not in TRUE + FALSE:
            raise HttpError(400, "Missing value for enable")
        if enable in TRUE:
            self.store.set_check(NODE, check_of(NODE, check_id, "critical", service_id, "Service Maintenance Mode"))
        else:
            self.store.remove_check(NODE, check_id)

    def update_check(self, check_id, status, note):
        for entries in self.store.services.values():
            for key, entry in entries.items():
                if key[0] == NODE and check_id in entry["Checks"]:
                    self.store.set_check(NODE, dict(entry["Checks"][check_id], Status=status, Output=note))
                    return True
        check = self.store.nodes[NODE]["Checks"].get(check_id)
        if check is not None:
            self.store.set_check(NODE, dict(check, Status=status, Output=note))
        return check is not None

    # --- the control socket ---------------------------------------------------------------------------------------
    async def control(self, method, path, body):
        if path == "/fault":
            if method == "DELETE":
                self.faults.clear()
            else:
                self.faults.append(dict(body, count=body.get("count", -1)))
                if body["kind"] == "reset_index":
                    self.renumber(body.get("to", 1))
        elif path == "/load":
            self.load(body)
        elif path == "/touch":
            self.touch(body)
        elif path == "/weigh":
            self.weigh(body["service"], sorted(self.store.services[body["service"]])[body["instance"]], body["weight"])
        elif path == "/flip":
            self.churner = asyncio.ensure_future(self.flip(**body))
        elif path == "/churn":
            if self.churner:
                self.churner.cancel()
                self.churner = None
            if body["rate"] > 0:
                self.churner = asyncio.ensure_future(self.churn(body["rate"], body.get("services", 0)))
        elif path == "/save":
            self.saved = copy.deepcopy(self.store)
        elif path == "/restore":
            self.store = copy.deepcopy(self.saved)
        elif path == "/clear":
            self.store = Store()
            self.store.node(NODE, self.options.node_address)
        elif path == "/token":
            if body.get("services") is None:
                self.tokens.pop(body["secret"], None)
                self.options.acl = "deny"
            else:
                self.tokens[body["secret"]] = {"services": body["services"], "nodes": body.get("nodes", True)}
        elif path == "/limit":
            self.limit = body["connections"]
        elif path == "/stats":
            return json.dumps(dict(self.stats, blocking=self.blocking, index=self.store.index,
                                   connections=sum(self.connections.values())))
        else:
            raise HttpError(404, "no such control")
        await self.notify()
        return ""

    def renumber(self, to):
        """As after a restored snapshot: every index is small again."""
        store = self.store
        store.index = to
        store.table_index = {table: to for table in store.table_index}
        store.service_index = {name: to for name in store.service_index}
        store.extinction_index = to

    def load(self, body):
        self.store = Store()
        self.store.node(NODE, self.options.node_address)
        first = int(ipaddress.ip_network(body.get("network", "10.0.0.0/8")).network_address) + 1
        instances = body["instances"]
        for number in range(instances):
            self.store.node(f"node-{number}", str(ipaddress.ip_address(first + number)))
        for service in range(body["services"]):
            name = f"{body.get('prefix', 's')}{service}"
            for number in range(instances):
                node = f"node-{number}"
                address, port, meta = str(ipaddress.ip_address(first + service * instances + number + 65536)), 8080, {}
                if service < body.get("flipping", 0):
                    address, port, meta = (address, 8080, {"meshd-weight": "0"}) if number else ("127.0.0.1", 19001, {})
                self.store.register(node, service_of({"ID": f"{name}-{number}", "Name": name, "Address": address,
                                                      "Port": port, "Tags": ["v1"], "Meta": meta}))
                self.store.set_check(node, check_of(node, f"service:{name}-{number}", "passing", f"{name}-{number}"))

    def touch(self, body):
        name, number = body["service"], body.get("instance", 0)
        key = sorted(self.store.services[name])[number]
        entry = self.store.services[name][key]
        check = next(iter(entry["Checks"].values()))
        self.store.set_check(key[0], dict(check, Status=body["status"]))

    def weigh(self, name, key, weight):
        plain = self.store.services[name][key]["Plain"]
        self.store.register(key[0], dict(plain, Weights={"Passing": weight, "Warning": 1}))

    async def churn(self, rate, services):
        names = sorted(self.store.services)[: services or None]
        count = 0
        while True:
            name = names[count % len(names)]
            self.weigh(name, next(iter(self.store.services[name])), 1 + count % 50)
            count += 1
            await self.notify()
            await asyncio.sleep(1 / rate)

    async def flip(self, services, rate, changes, report):
        self.flipping = {f"/v1/health/service/s{number}": (number, "open") for number in range(services)}
        with open(report, "w", buffering=1) as self.report:
            begin = time.monotonic()
            for i in range(changes):
                await asyncio.sleep(max(0, begin + i / rate - time.monotonic()))
                status = "critical" if i // services % 2 == 0 else "passing"
                self.touch({"service": f"s{i % services}", "status": status})
                await self.notify()
            await asyncio.sleep(5)
            self.report = None

    def tell(self, path, text, begun):
        """Notes that an answer told of a flip."""
        if self.report is None or path not in self.flipping:
            return
        number, before = self.flipping[path]
        side = "closed" if '"critical"' in text else "open"
        if side != before:
            self.flipping[path] = (number, side)
            self.report.write(f"{number} {side} {begun}\n")

    # --- HTTP -----------------------------------------------------------------------------------------------------
    def fault_for(self, path):
        for fault in self.faults:
            if path.startswith(fault.get("path", "/")) and fault["count"] != 0:
                fault["count"] -= 1 if fault["count"] > 0 else 0
                return fault
        return {"kind": ""}

    async def answer(self, method, target, headers, body, fault):
        path, _, query_text = target.partition("?")
        query = dict(urllib.parse.parse_qsl(query_text, keep_blank_values=True))
        kind = fault["kind"]
        if kind == "status":
            raise HttpError(fault["status"], fault.get("body", ""), fault.get("headers"))
        if kind == "no_leader" and not ("stale" in query and fault.get("stale_works")):
            raise HttpError(500, "No cluster leader")
        if method == "GET" and path == "/v1/status/leader":
            return '"127.0.0.1:8300"', {}
        if method == "GET" and path == "/v1/agent/self":
            return json.dumps({"Config": {"Datacenter": "dc1", "NodeName": NODE}}), {}
        if method == "GET" and path == "/v1/agent/services":
            return json.dumps({key[1]: entry["Service"] for entries in self.store.services.values()
                               for key, entry in entries.items() if key[0] == NODE}), {}
        if method == "GET":
            reader = self.reader(path)
            if reader is None:
                raise HttpError(404, "Invalid URL path: not a recognized HTTP API endpoint")
            text, answer = await self.read(reader, headers, query, kind)
            if kind == "contact":
                answer["X-Consul-LastContact"] = str(fault["ms"])
                answer["X-Consul-KnownLeader"] = "true" if fault.get("leader", True) else "false"
            if kind == "drop_header":
                del answer["X-Consul-Index"]
            if kind == "empty":
                text = "{}" if path == "/v1/catalog/services" else "[]"
            return text, answer
        if method != "PUT":
            raise HttpError(405, "method not allowed")
        self.rights(headers, query)
        text = self.write(path, query, canonical(json.loads(body)) if body else {})
        await self.notify()
        return text, {}

    async def respond(self, writer, status, text, headers, fault):
        data = text.encode()
        kind = fault["kind"]
        if kind == "garbage":
            data = b'[{"Node": \xff' + data[:20]
        length = len(data) + (7 if kind == "wrong_length" else 0)
        head = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in headers.items()) + "\r\n"
        whole = head.encode() + data
        if kind == "half":
            whole = whole[: len(head) + len(data) // 2]
        elif kind == "cut":
            whole = whole[: fault["at"]]
        if kind == "slow":
            pieces = 10
            step = max(1, len(whole) // pieces)
            for start in range(0, len(whole), step):
                writer.write(whole[start:start + step])
                await writer.drain()
                await asyncio.sleep(fault["seconds"] / pieces)
        else:
            writer.write(whole)
            await writer.drain()
        return kind not in ("half", "cut", "wrong_length")

    async def serve(self, reader, writer):
        peer = writer.get_extra_info("peername") or "unix"
        client = peer[0] if isinstance(peer, tuple) else "unix"
        self.connections[client] = self.connections.get(client, 0) + 1
        try:
            if self.connections[client] > self.limit:
                self.stats["refused_connections"] += 1
                text = "Your IP is issuing too many concurrent connections, please rate limit your calls\n"
                await self.respond(writer, 429, text, {"Connection": "close"}, {"kind": ""})
                return
            self.stats["peak_connections"] = max(self.stats["peak_connections"], self.connections[client])
            while await self.one_request(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            pass
        finally:
            self.connections[client] -= 1
            writer.close()

    async def one_request(self, reader, writer):
        request = await read_request(reader)
        if request is None:
            return False
        method, target, headers, body = request
        self.stats["requests"] += 1
        kind_of_path = "/".join(target.partition("?")[0].split("/")[:4])
        self.stats["paths"][kind_of_path] = self.stats["paths"].get(kind_of_path, 0) + 1
        fault = self.fault_for(target) if method == "GET" else {"kind": ""}
        if fault["kind"] == "hang":
            await asyncio.Event().wait()
        # A client that goes away ends its blocking query, as with the real one.
        work = asyncio.ensure_future(self.answer(method, target, headers, body, fault))
        gone = asyncio.ensure_future(reader.read(1))
        await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            work.cancel()
            return False
        gone.cancel()
        try:
            await gone
        except asyncio.CancelledError:
            pass
        try:
            text, answer = work.result()
            begun = time.monotonic_ns()
            keeps = await self.respond(writer, 200, text, answer, fault)
            self.tell(target.partition("?")[0], text, begun)
            return keeps
        except HttpError as error:
            return await self.respond(writer, error.status, error.text, error.headers, {"kind": ""})
        except (ValueError, KeyError, TypeError) as error:
            return await self.respond(writer, 400, f"Request decode failed: {error}", {}, {"kind": ""})

    async def serve_control(self, reader, writer):
        try:
            while (request := await read_request(reader)) is not None:
                method, target, _, body = request
                try:
                    text, status = await self.control(method, target, json.loads(body) if body else {}), 200
                except HttpError as error:
                    text, status = error.text, error.status
                await self.respond(writer, status, text, {}, {"kind": ""})
        except ConnectionError:
            pass
        finally:
            writer.close()


async def read_request(reader):
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        return None
    lines = head.decode("latin-1").split("\r\n")
    method, target, _ = lines[0].split(" ", 2)
    headers = {}
    for line in lines[1:]:
        name, separator, value = line.partition(":")
        if separator:
            headers[name.strip().lower()] = value.strip()
    length = int(headers.get("content-length", 0))
    body = await reader.readexactly(length) if length else b""
    return method, target, headers, body


async def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--control", required=True)
    parser.add_argument("--unix")
    parser.add_argument("--cert")
    parser.add_argument("--key")
    parser.add_argument("--client-ca")
    parser.add_argument("--acl", choices=("allow", "deny"), default="allow")
    parser.add_argument("--node-address", default="127.0.0.1")
    parser.add_argument("--register", action="append", default=[], help="body of a registration, before it listens")
    options = parser.parse_args()

    context = None
    if options.cert:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(options.cert, options.key)
        if options.client_ca:
            context.load_verify_locations(options.client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
    double = Double(options)
    for body in options.register:
        double.write("/v1/agent/service/register", {}, canonical(json.loads(body)))
    limit = 1 << 26
    server = await asyncio.start_server(double.serve, options.host, options.port, ssl=context, limit=limit, backlog=512)
    if options.unix:
        await asyncio.start_unix_server(double.serve, options.unix, limit=limit)
    await asyncio.start_unix_server(double.serve_control, options.control, limit=limit)
    print("ready", server.sockets[0].getsockname()[1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        sys.exit(0)
