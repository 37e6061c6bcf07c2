// SPDX-License-Identifier: Apache-2.0
#include "tests/support/zookeeper_server.hpp"

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <stdexcept>

namespace mesh::test {
namespace {

namespace fs = std::filesystem;

const std::string kJars = "/usr/share/java";
// Debian's Python: another one in PATH does not see Debian's modules.
const std::string kPython = "/usr/bin/python3";

std::string class_path() {
  std::string path;
  for (const char* jar :
       {"zookeeper",           "zookeeper-jute", "slf4j-api",         "slf4j-simple",        "netty-handler",
        "netty-common",        "netty-buffer",   "netty-transport",   "netty-codec",         "netty-resolver",
        "metrics-core",        "snappy-java",    "commons-cli",       "jackson-core",        "jackson-databind",
        "jackson-annotations", "curator-client", "curator-framework", "curator-x-discovery", "guava"}) {
    path += (path.empty() ? "" : ":") + kJars + "/" + jar + ".jar";
  }
  return path;
}

int free_port() {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof(address);
  const bool bound = ::bind(fd, reinterpret_cast<sockaddr*>(&address), length) == 0 &&
                     ::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length) == 0;
  ::close(fd);
  if (!bound) throw std::runtime_error("no free port");
  return ntohs(address.sin_port);
}

}  // namespace

std::string ZookeeperServer::unavailable() {
  const std::string remedy = " is not installed (scripts/setup --interop)";
  if (!have_program("java")) return "SKIPPED: java" + remedy;
  if (!fs::exists(kJars + "/zookeeper.jar")) return "SKIPPED: zookeeper" + remedy;
  if (run({kPython, "-c", "import kazoo"}).code != 0) return "SKIPPED: python3-kazoo" + remedy;
  return {};
}

std::string ZookeeperServer::curator_unavailable() {
  const std::string remedy = " is not installed (scripts/setup --interop)";
  if (!have_program("javac")) return "SKIPPED: a JDK, which compiles the program with Curator," + remedy;
  if (!fs::exists(kJars + "/curator-x-discovery.jar")) return "SKIPPED: libcurator-discovery-java" + remedy;
  return {};
}

ZookeeperServer::ZookeeperServer(Where where) : where_(std::move(where)), port_(free_port()) { start(); }

void ZookeeperServer::start() {
  const std::string config = where_.folder + "/zoo.cfg";
  std::ofstream(config) << "tickTime=" << where_.tick_ms << "\ndataDir=" << where_.folder
                        << "/data\nclientPort=" << port_ << "\nclientPortAddress=" << where_.address
                        << "\nadmin.enableServer=false\n4lw.commands.whitelist=srvr\n";
  std::vector<std::string> command = {"java", "-Xmx192m", "-Dznode.container.checkIntervalMs=300"};
  command.insert(command.end(), {"-cp", class_path(), "org.apache.zookeeper.server.quorum.QuorumPeerMain", config});
  SpawnOptions options = where_.spawn;
  options.output = where_.folder + "/server.log";
  process_ = Process::start(options, command);
  const std::string ask = "import socket; s = socket.create_connection(('" + where_.address + "', " +
                          std::to_string(port_) +
                          "), 2); s.settimeout(2); s.send(b'srvr'); assert s.recv(9) == b'Zookeeper'";
  const auto answers = [&] { return run({kPython, "-c", ask}, where_.spawn).code == 0; };
  if (!eventually(std::chrono::seconds(40), answers)) throw std::runtime_error("ZooKeeper does not answer: " + config);
}

void ZookeeperServer::wipe() {
  stop();
  fs::remove_all(where_.folder + "/data");
}

std::string ZookeeperServer::kazoo(const std::string& program) const {
  const Output output =
      run({kPython, "-c",
           "import sys\nfrom kazoo.client import KazooClient\nfrom kazoo.security import make_digest_acl\n"
           "zk = KazooClient(sys.argv[1], timeout=10)\nzk.start(30)\n" +
               program + "\nzk.stop()",
           address()},
          where_.spawn, std::chrono::minutes(3));  // thousands of nodes take their time on a busy machine
  if (output.code != 0) throw std::runtime_error("kazoo failed: " + output.errors + output.text);
  return output.text;
}

void ZookeeperServer::set(const std::string& path, const std::string& data) const {
  kazoo("path, data = '" + path + "', '''" + data +
        "'''.encode()\nzk.set(path, data) if zk.exists(path) else zk.create(path, data, makepath=True)");
}

void ZookeeperServer::remove(const std::string& path) const { kazoo("zk.delete('" + path + "', recursive=True)"); }

Process ZookeeperServer::hold(const std::string& path, const std::string& data, double session_seconds) const {
  const std::string ready = where_.folder + "/holds";
  fs::remove(ready);
  Process process =
      Process::start(where_.spawn, {kPython, "-c",
                                    "import sys, time\nfrom kazoo.client import KazooClient\n"
                                    "zk = KazooClient(sys.argv[1], timeout=float(sys.argv[4]))\nzk.start(30)\n"
                                    "zk.create(sys.argv[2], sys.argv[3].encode(), ephemeral=True, makepath=True)\n"
                                    "open(sys.argv[5], 'w').close()\ntime.sleep(3600)",
                                    address(), path, data, std::to_string(session_seconds), ready});
  if (!eventually(std::chrono::seconds(30), [&] { return fs::exists(ready); })) {
    throw std::runtime_error("kazoo does not hold " + path);
  }
  return process;
}

Process ZookeeperServer::curator(const std::vector<std::string>& arguments) const {
  std::vector<std::string> command = {
      "java",   "-Xmx192m", "-cp", class_path(), std::string(MESH_SOURCE_DIR) + "/tests/interop/curator/Register.java",
      address()};
  command.insert(command.end(), arguments.begin(), arguments.end());
  SpawnOptions options = where_.spawn;
  options.output = where_.folder + "/curator.log";
  return Process::start(options, command);
}

}  // namespace mesh::test
