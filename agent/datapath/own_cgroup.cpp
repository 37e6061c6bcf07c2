// SPDX-License-Identifier: Apache-2.0
#include "datapath/own_cgroup.hpp"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <sstream>

#include "base/fd.hpp"

namespace mesh::datapath {
namespace {

constexpr std::size_t kProcFileMax = 1 << 20;

/// "/path" of the "0::/path" line of /proc/PROCESS/cgroup.
base::Result<std::string> cgroup_path(const std::string& process) {
  const std::string file = "/proc/" + process + "/cgroup";
  const std::string text = MESH_TRY(base::read_file(file, kProcFileMax));
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("0::")) return line.substr(3);
  }
  return base::fail(base::ErrorKind::kUnsupported, "find a cgroup: " + file + " has no cgroup2 entry",
                    "mount cgroup2: mount -t cgroup2 none /sys/fs/cgroup/unified");
}

}  // namespace

base::Result<std::string> find_cgroup2_mount() {
  const std::string text = MESH_TRY(base::read_file("/proc/self/mounts", kProcFileMax));
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream fields(line);
    std::string device, folder, type;
    fields >> device >> folder >> type;
    if (type == "cgroup2") return folder;
  }
  return base::fail(base::ErrorKind::kUnsupported, "find the cgroup2 mount: /proc/self/mounts has none",
                    "mount it: mount -t cgroup2 none /sys/fs/cgroup, or set agent.cgroup_root");
}

base::Result<std::uint64_t> cgroup_id(const std::string& folder) {
  struct stat status{};
  if (::stat(folder.c_str(), &status) != 0) return base::fail_errno(errno, "look up cgroup " + folder);
  return status.st_ino;
}

base::Result<OwnCgroup> join_own_cgroup(const std::string& cgroup_root, const std::string& wanted) {
  OwnCgroup own;
  own.path = wanted;
  if (own.path.empty()) {
    const std::string current = MESH_TRY(cgroup_path("self"));
    // A process that is in the leaf already (restarted by a supervisor that shares it) stays there.
    if (current == "/") {
      own.path = "/meshd.agent";
    } else {
      own.path = current.ends_with("/agent") ? current : current + "/agent";
    }
  }
  const std::string folder = cgroup_root + own.path;
  if (::mkdir(folder.c_str(), 0755) != 0 && errno != EEXIST) {
    return base::fail_errno(errno, "make the agent's own cgroup " + folder,
                            "give the unit Delegate=yes, or set agent.exempt_cgroup to a cgroup the agent may make");
  }
  const base::Fd procs(::open((folder + "/cgroup.procs").c_str(), O_WRONLY | O_CLOEXEC));
  if (!procs.valid() || ::write(procs.get(), "0", 1) != 1) {
    return base::fail_errno(errno, "join the agent's own cgroup " + folder,
                            "it must be a leaf without controllers enabled below it; see agent.exempt_cgroup");
  }
  own.id = MESH_TRY(cgroup_id(folder));
  own.folder = folder;
  return own;
}

base::Result<std::string> cgroup_of(pid_t process) { return cgroup_path(std::to_string(process)); }

base::Result<std::uint64_t> cgroup_shared_with_nobody(const std::string& cgroup_root,
                                                      std::span<const pid_t> processes) {
  const std::string path = MESH_TRY(cgroup_of(processes.front()));
  const std::string folder = cgroup_root + path;
  const std::string text = MESH_TRY(base::read_file(folder + "/cgroup.procs", kProcFileMax));
  std::istringstream lines(text);
  for (pid_t process = 0; lines >> process;) {
    if (std::ranges::find(processes, process) != processes.end()) continue;
    return base::fail(base::ErrorKind::kInvalid,
                      "exempt cgroup " + path + ": process " + std::to_string(process) + " is in it, too",
                      "start it in a cgroup of its own, as systemd and container runtimes do");
  }
  return cgroup_id(folder);
}

void leave_own_cgroup(const OwnCgroup& own) {
  const std::string above = own.folder.substr(0, own.folder.rfind('/')) + "/cgroup.procs";
  const base::Fd procs(::open(above.c_str(), O_WRONLY | O_CLOEXEC));
  if (procs.valid() && ::write(procs.get(), "0", 1) == 1) ::rmdir(own.folder.c_str());
}

}  // namespace mesh::datapath
