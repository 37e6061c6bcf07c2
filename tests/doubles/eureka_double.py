#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A Eureka server for tests: its REST API for instances and for clients that read, with the real rules and with faults.

  tests/doubles/eureka_double.py --port 8761 --control PATH [--host ADDRESS] [--base /eureka] [--cert FILE --key FILE]

It says "ready PORT" when it listens. Rules kept as the real one has them: XML unless JSON is asked for, gzip where it is
accepted; names of applications in upper case; what a registration must have; overridden statuses, over which DOWN and
STARTING of the instance itself win; deltas of all that changed within three minutes, the same instance once, with its
newest action; the reconcile hash over all instances; 404 to heartbeats of instances it does not know. Leases never
expire: as with a server that preserves itself.

Faults and bulk data come by HTTP over the control socket, which is never disturbed:

  PUT /fault    {"kind": KIND, "path": "/apps/delta", "count": 3, ...}  for reads whose path begins so; count -1: always
                hang | slow (seconds) | half | wrong_length | garbage | cut (at: bytes of the whole answer) | status
                (status, body, headers) | blank (no body) | no_apps (an empty registry) | wrong_hash
  DELETE /fault                    ends all faults
  PUT /load     {"apps": N, "instances": M}  replaces what is registered: APP0, APP1, ... at 10.0.0.0 and up
  PUT /move     {"app": A, "id": I, "ip": ADDRESS}  changes an address, and no delta ever says so
  PUT /expire   {}                 as if three minutes had passed: deltas are empty
  PUT /save, PUT /restore          remember the state, and return to it
  PUT /clear                       nothing is registered
  PUT /form     {"legacy": true}   JSON as servers before 1.7 wrote it: one element is no list, numbers are strings
  PUT /auth     {"user": U, "password": P}  basic authentication from now on; null: none
  GET /stats    {"/apps": N, "/apps/delta": N, ..., "gzip": N, "renewals": N}  so far
"""
import argparse
import asyncio
import base64
import copy
import gzip
import json
import ssl
import sys
import time
import urllib.parse
from xml.sax.saxutils import escape

sys.dont_write_bytecode = True
from consul_double import HttpError, read_request  # noqa: E402

RETENTION = 180.0
STATUSES = ("UP", "DOWN", "STARTING", "OUT_OF_SERVICE", "UNKNOWN")
EMPTY_MAP = {"@class": "java.util.Collections$EmptyMap"}


def port_of(value, default):
    """As written now, whatever the client wrote."""
    if not isinstance(value, dict):
        value = {"$": value if value is not None else default[0], "@enabled": default[1] if value is None else True}
    enabled = str(value.get("@enabled", "true")).lower()
    return {"$": int(value.get("$", default[0])), "@enabled": enabled}


def canonical(app, body):
    for key, name in (("hostName", "hostname"), ("ipAddr", "ip address"), ("app", "appName")):
        if not body.get(key):
            raise HttpError(400, f"Missing {name}")
    if body["app"].upper() != app:
        raise HttpError(400, f"Mismatched appName, expecting {app} but was {body['app'].upper()}")
    if not (body.get("dataCenterInfo") or {}).get("name"):
        raise HttpError(400, "Missing dataCenterInfo")
    status = body.get("status", "UP")
    now = str(int(time.time() * 1000))
    instance = {
        "instanceId": body.get("instanceId") or body["hostName"], "hostName": body["hostName"], "app": app,
        "ipAddr": body["ipAddr"], "status": status if status in STATUSES else "UNKNOWN", "overriddenStatus": "UNKNOWN",
        "port": port_of(body.get("port"), (7001, True)), "securePort": port_of(body.get("securePort"), (7002, False)),
        "countryId": 1, "dataCenterInfo": body["dataCenterInfo"],
        "leaseInfo": {"renewalIntervalInSecs": 30, "durationInSecs": 90, "registrationTimestamp": int(now),
                      "lastRenewalTimestamp": int(now), "evictionTimestamp": 0, "serviceUpTimestamp": int(now)},
        "metadata": body.get("metadata") or EMPTY_MAP,
        "homePageUrl": f"http://{body['hostName']}/", "statusPageUrl": f"http://{body['hostName']}/info",
        "healthCheckUrl": f"http://{body['hostName']}/health", "vipAddress": body.get("vipAddress") or app.lower(),
        "secureVipAddress": body.get("secureVipAddress") or app.lower(), "isCoordinatingDiscoveryServer": "false",
        "lastUpdatedTimestamp": now, "lastDirtyTimestamp": str(body.get("lastDirtyTimestamp") or now),
        "actionType": "ADDED"}
    return instance


def reconcile_hash(apps):
    counts = {}
    for instances in apps.values():
        for instance in instances.values():
            counts[instance["status"]] = counts.get(instance["status"], 0) + 1
    return "".join(f"{status}_{counts[status]}_" for status in sorted(counts))


class Registry:
    def __init__(self):
        self.apps = {}
        self.recent = {}  # (app, id) -> (time, instance)
        self.overridden = {}  # (app, id) -> status
        self.version = 0

    def note(self, app, instance, action):
        instance["actionType"] = action
        instance["lastUpdatedTimestamp"] = str(int(time.time() * 1000))
        self.recent.pop((app, instance["instanceId"]), None)
        self.recent[(app, instance["instanceId"])] = (time.monotonic(), instance)
        self.version += 1

    def register(self, app, instance):
        key = (app, instance["instanceId"])
        override = self.overridden.get(key)
        if override:
            instance["overriddenStatus"] = override
            if instance["status"] not in ("DOWN", "STARTING"):
                instance["status"] = override
        self.apps.setdefault(app, {})[instance["instanceId"]] = instance
        self.note(app, instance, "ADDED")

    def find(self, app, instance_id):
        instance = self.apps.get(app, {}).get(instance_id)
        if instance is None:
            raise HttpError(404, "")
        return instance

    def cancel(self, app, instance_id):
        instance = self.find(app, instance_id)
        del self.apps[app][instance_id]
        if not self.apps[app]:
            del self.apps[app]
        self.overridden.pop((app, instance_id), None)
        self.note(app, instance, "DELETED")

    def override(self, app, instance_id, status):
        instance = self.find(app, instance_id)
        if status not in STATUSES:
            raise HttpError(500, f"no status {status}")
        self.overridden[(app, instance_id)] = status
        instance["overriddenStatus"] = instance["status"] = status
        self.note(app, instance, "MODIFIED")

    def end_override(self, app, instance_id, status):
        instance = self.find(app, instance_id)
        self.overridden.pop((app, instance_id), None)
        instance["overriddenStatus"], instance["status"] = "UNKNOWN", status
        self.note(app, instance, "MODIFIED")

    def delta(self):
        oldest = time.monotonic() - RETENTION
        self.recent = {key: item for key, item in self.recent.items() if item[0] >= oldest}
        apps = {}
        for (app, instance_id), (_, instance) in self.recent.items():
            apps.setdefault(app, {})[instance_id] = instance
        return apps


def legacy_instance(instance):
    instance = dict(instance)
    for key in ("port", "securePort"):
        instance[key] = {"$": str(instance[key]["$"]), "@enabled": instance[key]["@enabled"] == "true"}
    instance["overriddenstatus"] = instance.pop("overriddenStatus")
    del instance["instanceId"]  # came with 1.3; the host is the id then
    return instance


def to_json(apps, version, apps_hash, legacy):
    def listed(items):
        return items[0] if legacy and len(items) == 1 else items
    shape = legacy_instance if legacy else lambda instance: instance
    applications = [{"name": name, "instance": listed([shape(one) for one in instances.values()])}
                    for name, instances in apps.items()]
    return json.dumps({"applications": {"versions__delta": str(version), "apps__hashcode": apps_hash,
                                        "application": listed(applications)}})


def xml_of(name, value):
    if isinstance(value, dict):
        attributes = "".join(f' {key[1:]}="{escape(str(item))}"' for key, item in value.items() if key[0] == "@")
        inside = "".join(escape(str(item)) if key == "$" else xml_of(key, item)
                         for key, item in value.items() if key[0] != "@")
        return f"<{name}{attributes}>{inside}</{name}>"
    return f"<{name}>{escape(str(value))}</{name}>"


def to_xml(apps, version, apps_hash):
    text = f"<applications><versions__delta>{version}</versions__delta><apps__hashcode>{apps_hash}</apps__hashcode>"
    for name, instances in apps.items():
        inside = "".join(xml_of("instance", instance) for instance in instances.values())
        text += f"<application><name>{escape(name)}</name>{inside}</application>"
    return text + "</applications>"


class Double:
    def __init__(self, base):
        self.base = base
        self.registry = Registry()
        self.saved = None
        self.faults = []
        self.legacy = False
        self.auth = None
        self.stats = {}
        self.texts = {}  # whole answers of the newest version

    # --- what clients ask -----------------------------------------------------------------------------------------
    def render(self, apps, version, apps_hash, as_json):
        return to_json(apps, version, apps_hash, self.legacy) if as_json else to_xml(apps, version, apps_hash)

    def read(self, parts, as_json, fault):
        registry = self.registry
        apps = {} if fault["kind"] == "no_apps" else registry.apps
        apps_hash = "UP_999_" if fault["kind"] == "wrong_hash" else reconcile_hash(apps)
        if parts == ["apps"]:
            key = (registry.version, as_json, self.legacy, fault["kind"])
            if key not in self.texts:
                self.texts = {key: self.render(apps, 1, apps_hash, as_json)}
            return self.texts[key]
        if parts == ["apps", "delta"]:
            delta = {} if fault["kind"] == "no_apps" else registry.delta()
            return self.render(delta, registry.version, apps_hash, as_json)
        if parts[0] in ("vips", "svips") and len(parts) == 2:
            name = "vipAddress" if parts[0] == "vips" else "secureVipAddress"
            found = {app: {key: one for key, one in instances.items() if one[name] == parts[1]}
                     for app, instances in apps.items()}
            found = {app: instances for app, instances in found.items() if instances}
            if not found:
                raise HttpError(404, "")
            return self.render(found, -1, reconcile_hash(found), as_json)
        if parts[0] == "apps" and len(parts) == 2:
            name = parts[1].upper()
            if name not in apps:
                raise HttpError(404, "")
            one = {"name": name, "instance": list(apps[name].values())}
            if as_json:
                return json.dumps({"application": one})
            return xml_of("application", {"name": name}).replace(
                "</application>", "".join(xml_of("instance", i) for i in one["instance"]) + "</application>")
        instance = None
        if parts[0] == "apps" and len(parts) == 3:
            instance = registry.find(parts[1].upper(), parts[2])
        elif parts[0] == "instances" and len(parts) == 2:
            instance = next((apps[app][parts[1]] for app in apps if parts[1] in apps[app]), None)
        if instance is None:
            raise HttpError(404, "")
        return json.dumps({"instance": instance}) if as_json else xml_of("instance", instance)

    def write(self, method, parts, query, body):
        """The status of the answer."""
        registry = self.registry
        if parts[:1] != ["apps"] or len(parts) < 2:
            raise HttpError(404, "")
        app = parts[1].upper()
        if method == "POST" and len(parts) == 2:
            registry.register(app, canonical(app, json.loads(body)["instance"]))
            return 204
        if len(parts) == 3 and method == "PUT":
            instance = registry.find(app, parts[2])
            self.stats["renewals"] = self.stats.get("renewals", 0) + 1
            status = query.get("status")
            if status in STATUSES and (app, parts[2]) not in registry.overridden and status != instance["status"]:
                instance["status"] = status
                registry.note(app, instance, "MODIFIED")
            return 200
        if len(parts) == 3 and method == "DELETE":
            registry.cancel(app, parts[2])
            return 200
        if len(parts) == 4 and parts[3] == "status" and method == "PUT":
            registry.override(app, parts[2], query.get("value", ""))
            return 200
        if len(parts) == 4 and parts[3] == "status" and method == "DELETE":
            registry.end_override(app, parts[2], query.get("value", "UNKNOWN"))
            return 200
        if len(parts) == 4 and parts[3] == "metadata" and method == "PUT":
            instance = dict(registry.find(app, parts[2]))
            known = {key: value for key, value in instance["metadata"].items() if key[0] != "@"}
            instance["metadata"] = known | query
            registry.register(app, instance)
            return 200
        raise HttpError(405, "")

    def fault_for(self, path):
        for fault in self.faults:
            if path.startswith(fault.get("path", "")) and fault["count"] != 0:
                fault["count"] -= 1
                return fault
        return {"kind": ""}

    def allow(self, headers):
        if self.auth is None:
            return
        wanted = "Basic " + base64.b64encode(f"{self.auth['user']}:{self.auth['password']}".encode()).decode()
        if headers.get("authorization") != wanted:
            raise HttpError(401, "Unauthorized", {"WWW-Authenticate": 'Basic realm="Realm"'})

    async def one_request(self, reader, writer):
        request = await read_request(reader)
        if request is None:
            return False
        method, target, headers, body = request
        path, _, query = target.partition("?")
        fault = {"kind": ""}
        try:
            self.allow(headers)
            if not path.startswith(self.base + "/"):
                raise HttpError(404, "")
            path = path[len(self.base):].rstrip("/")
            parts = [urllib.parse.unquote(part) for part in path.split("/")[1:]]
            if method != "GET":
                return await self.respond(writer, self.write(method, parts, dict(urllib.parse.parse_qsl(query)), body))
            self.stats[path] = self.stats.get(path, 0) + 1
            fault = self.fault_for(path)
            if fault["kind"] == "hang":
                await asyncio.Event().wait()
            if fault["kind"] == "status":
                raise HttpError(fault["status"], fault.get("body", ""), fault.get("headers"))
            as_json = "json" in headers.get("accept", "")
            data = self.read(parts, as_json, fault).encode()
            if fault["kind"] == "blank":
                data = b""
            more = {"Content-Type": "application/json" if as_json else "application/xml"}
            if "gzip" in headers.get("accept-encoding", ""):
                self.stats["gzip"] = self.stats.get("gzip", 0) + 1
                data = gzip.compress(data, 1)
                more["Content-Encoding"] = "gzip"
            return await self.respond(writer, 200, data, more, fault)
        except HttpError as error:
            return await self.respond(writer, error.status, error.text.encode(), error.headers)
        except (ValueError, KeyError, TypeError) as error:
            return await self.respond(writer, 400, str(error).encode())

    async def respond(self, writer, status, data=b"", headers=None, fault=None):
        kind = (fault or {"kind": ""})["kind"]
        headers = dict(headers or {})
        if kind == "garbage":
            data = b'{"applications": \xff' + data[:20]
            headers.pop("Content-Encoding", None)
        head = f"HTTP/1.1 {status} X\r\n"
        if status != 204:
            head += f"Content-Length: {len(data) + (7 if kind == 'wrong_length' else 0)}\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in headers.items()) + "\r\n"
        whole = head.encode() + data
        if kind == "half":
            whole = whole[: len(head) + len(data) // 2]
        elif kind == "cut":
            whole = whole[: fault["at"]]
        if kind == "slow":
            for start in range(0, len(whole), max(1, len(whole) // 10)):
                writer.write(whole[start:start + max(1, len(whole) // 10)])
                await writer.drain()
                await asyncio.sleep(fault["seconds"] / 10)
        else:
            writer.write(whole)
            await writer.drain()
        return kind not in ("half", "cut", "wrong_length")

    async def serve(self, reader, writer):
        try:
            while await self.one_request(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            pass
        finally:
            writer.close()

    # --- the control socket ---------------------------------------------------------------------------------------
    def control(self, method, path, body):
        registry = self.registry
        if path == "/fault" and method == "DELETE":
            self.faults.clear()
        elif path == "/fault":
            self.faults.append(dict(body, count=body.get("count", -1)))
        elif path == "/load":
            self.load(body["apps"], body["instances"])
        elif path == "/move":
            registry.find(body["app"], body["id"])["ipAddr"] = body["ip"]
            self.texts = {}
        elif path == "/expire":
            registry.recent.clear()
        elif path == "/save":
            self.saved = copy.deepcopy(registry)
        elif path == "/restore":
            self.registry = copy.deepcopy(self.saved)
            self.texts = {}
        elif path == "/clear":
            self.registry = Registry()
            self.texts = {}
        elif path == "/form":
            self.legacy = body["legacy"]
        elif path == "/auth":
            self.auth = body
        elif path == "/stats":
            return json.dumps(self.stats)
        else:
            raise HttpError(404, "no such control")
        return ""

    def load(self, apps, instances):
        self.registry = registry = Registry()
        self.texts = {}
        for app in range(apps):
            for number in range(instances):
                address = app * instances + number
                ip = f"10.{address >> 16}.{address >> 8 & 255}.{address & 255}"
                body = {"instanceId": f"host-{address}:app{app}:8080", "hostName": f"host-{address}", "ipAddr": ip,
                        "app": f"APP{app}", "port": {"$": 8080, "@enabled": "true"},
                        "metadata": {"management.port": "8080", "zone": f"zone-{number % 3}"},
                        "dataCenterInfo": {"@class": "com.netflix.appinfo.InstanceInfo$DefaultDataCenterInfo",
                                           "name": "MyOwn"}}
                registry.register(f"APP{app}", canonical(f"APP{app}", body))
        registry.recent.clear()

    async def serve_control(self, reader, writer):
        try:
            while (request := await read_request(reader)) is not None:
                method, target, _, body = request
                try:
                    text, status = self.control(method, target, json.loads(body) if body else {}), 200
                except HttpError as error:
                    text, status = error.text, error.status
                await self.respond(writer, status, text.encode())
        except ConnectionError:
            pass
        finally:
            writer.close()


async def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--control", required=True)
    parser.add_argument("--base", default="/eureka")
    parser.add_argument("--cert")
    parser.add_argument("--key")
    parser.add_argument("--register", action="append", default=[], help="an instance that is there before it listens")
    options = parser.parse_args()
    context = None
    if options.cert:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(options.cert, options.key)
    double = Double(options.base)
    for instance in map(json.loads, options.register):
        double.write("POST", ["apps", instance["app"]], {}, json.dumps({"instance": instance}))
    server = await asyncio.start_server(double.serve, options.host, options.port, ssl=context)
    await asyncio.start_unix_server(double.serve_control, options.control)
    print("ready", server.sockets[0].getsockname()[1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        sys.exit(0)
