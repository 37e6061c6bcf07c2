// SPDX-License-Identifier: Apache-2.0
#include "datapath/client_identity.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sched.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <filesystem>
#include <optional>
#include <sstream>
#include <thread>
#include <vector>

#include "base/fd.hpp"
#include "datapath/namespaces.hpp"
#include "datapath/own_cgroup.hpp"

namespace mesh::datapath {
namespace {

using base::ErrorKind;
namespace fs = std::filesystem;

constexpr std::size_t kProcFileMax = 1 << 20;
constexpr int kSearchDepthMax = 12;  // systemd's and kubelet's trees are at most 8 deep

/// The line of a /proc file that starts with `key`, without it.
std::optional<std::string> proc_field(const std::string& path, std::string_view key) {
  const auto text = base::read_file(path, kProcFileMax);
  if (!text) return std::nullopt;
  std::istringstream lines(*text);
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with(key)) return line.substr(key.size());
  }
  return std::nullopt;
}

/// The cookie of a process's network namespace. Opened from a thread of its own, because setns(2) moves the caller.
base::Result<std::uint64_t> netns_cookie_of(pid_t pid) {
  const std::string path = pid == 0 ? "/proc/self/ns/net" : fmt::format("/proc/{}/ns/net", pid);
  const base::Fd netns(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!netns.valid()) return base::fail_errno(errno, "open " + path, "run the agent with the host's /proc (hostPID)");
  base::Result<std::uint64_t> cookie = 0;
  std::thread([&] {
    if (::setns(netns.get(), CLONE_NEWNET) != 0) {
      cookie = base::fail_errno(errno, "enter " + path);
      return;
    }
    cookie = current_netns_cookie();
  }).join();
  return cookie;
}

std::optional<pid_t> first_process(const std::string& folder) {
  const auto text = base::read_file(folder + "/cgroup.procs", kProcFileMax);
  pid_t pid = 0;
  if (!text || std::from_chars(text->data(), text->data() + text->size(), pid).ec != std::errc{} || pid == 0) {
    return std::nullopt;
  }
  return pid;
}

/// A full path as it is, a short name by a search for folders of that name.
base::Result<std::string> find_cgroup(const std::string& root, std::string_view from) {
  if (from.starts_with('/')) {
    std::string path(from);
    while (path.size() > 1 && path.ends_with('/')) path.pop_back();
    if (!fs::is_directory(root + path)) {
      return base::fail(ErrorKind::kNotFound, fmt::format("find cgroup {}: {}{} is not there", path, root, path),
                        "`systemd-cgls` shows the tree; paths start below the cgroup2 mount");
    }
    return path;
  }
  std::vector<std::string> found;
  std::error_code ignored;
  for (fs::recursive_directory_iterator it(root, fs::directory_options::skip_permission_denied, ignored), end;
       it != end; it.increment(ignored)) {
    if (it.depth() >= kSearchDepthMax) it.disable_recursion_pending();
    if (it->is_directory(ignored) && it->path().filename() == from)
      found.push_back(it->path().string().substr(root.size()));
  }
  if (found.empty()) {
    return base::fail(ErrorKind::kNotFound, fmt::format("find '{}': no process and no cgroup of that name", from),
                      "give a process id, or a cgroup such as /system.slice/shop.service");
  }
  if (found.size() > 1) {
    return base::fail(
        ErrorKind::kInvalid,
        fmt::format("find cgroup '{}': {} fit, such as {} and {}", from, found.size(), found[0], found[1]),
        "give the whole path");
  }
  return found.front();
}

}  // namespace

bool is_within(std::string_view cgroup, std::string_view ancestor) {
  if (ancestor == "/") return true;
  return cgroup == ancestor || (cgroup.starts_with(ancestor) && cgroup[ancestor.size()] == '/');
}

base::Result<ClientIdentity> identify_client(const std::string& cgroup_root, std::string_view from) {
  ClientIdentity client;
  const auto [end, ec] = std::from_chars(from.data(), from.data() + from.size(), client.pid);
  const bool is_pid = !from.empty() && ec == std::errc{} && end == from.data() + from.size();
  if (is_pid) {
    const auto cgroup = proc_field(fmt::format("/proc/{}/cgroup", client.pid), "0::");
    if (!cgroup) {
      return base::fail(ErrorKind::kNotFound, fmt::format("find process {}: it is not there", client.pid),
                        "give a running process id, or a cgroup");
    }
    client.cgroup = *cgroup;
  } else if (from.empty()) {
    client.cgroup = "/";
  } else {
    client.cgroup = MESH_TRY(find_cgroup(cgroup_root, from));
    client.pid = first_process(cgroup_root + client.cgroup).value_or(0);
  }
  client.cgroup_id = MESH_TRY(cgroup_id(cgroup_root + client.cgroup));
  client.netns_cookie = MESH_TRY(netns_cookie_of(client.pid));
  if (client.pid != 0) {
    // "Uid:\treal\teffective\t..."; the hooks see the real one.
    std::istringstream uids(proc_field(fmt::format("/proc/{}/status", client.pid), "Uid:").value_or("0"));
    uids >> client.uid;
  }
  return client;
}

}  // namespace mesh::datapath
