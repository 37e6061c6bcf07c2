// SPDX-License-Identifier: Apache-2.0
// Whether tests/doubles/consul_double.py is a Consul to others than us: python3-consul.
#include "tests/support/consul_double.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>

namespace mesh::test {
namespace {

/// Runs as `python3 -c`: what a program with that client does, with its own blocking queries, checks and errors.
constexpr const char* kProgram = R"PY(
import sys, threading, time, urllib.request
import consul

host, port = sys.argv[1].rsplit("/", 1)[1].split(":")
c = consul.Consul(host=host, port=int(port))

def put(path):  # this client says some writes by GET, which Consul refuses since 1.0
    urllib.request.urlopen(urllib.request.Request(sys.argv[1] + path, method="PUT")).close()

def names():
    return sorted(c.catalog.services()[1])

assert c.status.leader(), "a leader"
assert c.agent.self()["Config"]["Datacenter"] == "dc1"
assert c.agent.service.register("web", service_id="w1", address="10.0.0.1", port=80, tags=["v1", "eu"],
                                check=consul.Check.ttl("10m"))
assert names() == ["consul", "web"], names()
index, services = c.catalog.services()
assert services["web"] == ["eu", "v1"] or services["web"] == ["v1", "eu"], services

# A TTL check is critical until it is said to pass.
index, entries = c.health.service("web")
assert entries[0]["Service"]["Port"] == 80 and entries[0]["Service"]["Address"] == "10.0.0.1", entries
assert [e["Status"] for e in entries[0]["Checks"] if e["ServiceID"] == "w1"] == ["critical"], entries
assert c.health.service("web", passing=True)[1] == []
put("/v1/agent/check/pass/service:w1")
assert len(c.health.service("web", passing=True)[1]) == 1
assert c.health.service("web", tag="nothing")[1] == []

# A blocking query returns with the change, and with the same index when its wait is over.
index, _ = c.health.service("web")
begin = time.monotonic()
same, _ = c.health.service("web", index=index, wait="1s")
waited = time.monotonic() - begin
assert same == index and 1.0 <= waited < 3.0, (same, index, waited)
threading.Timer(0.3, lambda: put("/v1/agent/check/fail/service:w1")).start()
moved, entries = c.health.service("web", index=index, wait="30s")
assert int(moved) > int(index), (moved, index)
assert any(check["Status"] == "critical" for check in entries[0]["Checks"]), entries
assert int(c.health.service("nothing-of-this-name")[0]) > 0

index, checks = c.health.state("critical")
assert [check["ServiceName"] for check in checks] == ["web"], checks
assert c.agent.service.maintenance("w1", True, "work")
assert any(check["CheckID"] == "_service_maintenance:w1" for check in c.health.service("web")[1][0]["Checks"])
assert c.agent.service.maintenance("w1", False)
assert c.agent.maintenance(True) and c.agent.maintenance(False)

# A node of its own, through the catalog.
assert c.catalog.register("db-1", "10.0.0.7", service={"Service": "db", "ID": "db", "Port": 5432},
                          check={"Name": "up", "CheckID": "up", "ServiceID": "db", "Status": "passing"})
_, entries = c.health.service("db", passing=True)
assert entries[0]["Node"]["Address"] == "10.0.0.7" and entries[0]["Service"]["Address"] == "", entries
assert len(c.catalog.service("db")[1]) == 1
assert c.catalog.deregister("db-1")
assert c.health.service("db")[1] == []
put("/v1/agent/service/deregister/w1")
assert names() == ["consul"], names()

try:
    consul.Consul(host=host, port=int(port), token="revoked").catalog.services()
    assert False, "a token that nobody knows was accepted"
except consul.ACLPermissionDenied:
    pass
print("done")
)PY";

TEST(ConsulDouble, is_a_consul_to_python3_consul) {
  ::signal(SIGPIPE, SIG_IGN);
  // Debian's Python: another one in PATH does not see Debian's modules.
  const std::string python = "/usr/bin/python3";
  if (run({python, "-c", "import consul"}).code != 0) {
    GTEST_SKIP() << "SKIPPED: python3-consul is not installed (scripts/setup --interop)";
  }
  const std::string folder = "/tmp/consul-interop-" + std::to_string(::getpid());
  std::filesystem::create_directories(folder);
  {
    const ConsulServer server({.folder = folder});
    const Output output = run({python, "-c", kProgram, server.url()}, {}, std::chrono::seconds(60));
    EXPECT_EQ(output.text, "done\n") << output.errors;
  }
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace mesh::test
