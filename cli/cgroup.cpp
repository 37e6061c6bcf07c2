// SPDX-License-Identifier: Apache-2.0
#include "cli/cgroup.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <cerrno>
#include <filesystem>
#include <sstream>
#include <vector>

#include "base/fd.hpp"

namespace mesh::cli {
namespace {

using base::ErrorKind;
using base::Result;

constexpr std::size_t kProcFileLimit = 1 << 20;
constexpr std::size_t kFoldersMax = 100'000;  ///< looked at when a cgroup is searched by name

Result<Cgroup> open_cgroup(const std::string& mount, const std::string& path) {
  Cgroup cgroup{path == "/" ? mount : mount + path, path, 0};
  struct stat status{};
  if (::stat(cgroup.folder.c_str(), &status) != 0) {
    return base::fail_errno(errno, "find cgroup " + path + " below " + mount, "list them with 'systemd-cgls'");
  }
  cgroup.id = status.st_ino;
  return cgroup;
}

Result<std::vector<std::string>> folders_named(const std::string& mount, std::string_view name) {
  namespace fs = std::filesystem;
  std::vector<std::string> found;
  std::error_code error;
  std::size_t seen = 0;
  for (fs::recursive_directory_iterator entry(mount, fs::directory_options::skip_permission_denied, error), end;
       !error && entry != end; entry.increment(error)) {
    std::error_code ignored;  // a cgroup may vanish while we look
    if (!entry->is_directory(ignored)) continue;
    if (++seen > kFoldersMax) {
      return base::fail(ErrorKind::kExhausted,
                        fmt::format("search cgroup '{}': more than {} cgroups", name, kFoldersMax),
                        "give its path: /system.slice/NAME.service");
    }
    if (entry->path().filename() == name) found.push_back(entry->path().string().substr(mount.size()));
  }
  return found;
}

}  // namespace

Result<std::string> find_cgroup_mount(const std::string& mounts_file) {
  std::istringstream lines(MESH_TRY(base::read_file(mounts_file, kProcFileLimit)));
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string device;
    std::string where;
    std::string type;
    if (words >> device >> where >> type && type == "cgroup2") return where;
  }
  return base::fail(ErrorKind::kUnsupported, "find cgroup2: no such mount in " + mounts_file,
                    "mount it: mount -t cgroup2 none /sys/fs/cgroup");
}

Result<Cgroup> find_cgroup(const std::string& mount, std::string_view name) {
  if (name.starts_with('/')) {
    std::string path(name);
    if (path.starts_with(mount + "/")) path.erase(0, mount.size());  // people paste the whole folder
    while (path.size() > 1 && path.ends_with('/')) path.pop_back();
    return open_cgroup(mount, path);
  }
  const auto found = MESH_TRY(folders_named(mount, name));
  if (found.size() == 1) return open_cgroup(mount, found.front());
  if (found.empty()) {
    return base::fail(ErrorKind::kNotFound, fmt::format("find cgroup '{}': none below {} has this name", name, mount),
                      "list them with 'systemd-cgls', or give a path such as /system.slice/shop.service");
  }
  std::string paths;
  for (const std::string& path : found) paths += ' ' + path;
  return base::fail(ErrorKind::kConflict,
                    fmt::format("find cgroup '{}': {} have this name:{}", name, found.size(), paths),
                    "give the path of one");
}

Result<Cgroup> cgroup_of(const std::string& mount, pid_t pid) {
  const std::string file = fmt::format("/proc/{}/cgroup", pid);
  auto text = base::read_file(file, kProcFileLimit);
  if (!text) return std::unexpected(std::move(text).error().within(fmt::format("find process {}", pid)));
  std::istringstream lines(*text);
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("0::")) return open_cgroup(mount, line.substr(3));
  }
  return base::fail(ErrorKind::kUnsupported, "read " + file + ": the process is in no cgroup2");
}

Result<std::uint64_t> netns_cookie_of(pid_t pid) {
  base::Fd own;
  if (pid != 0) {
    const std::string path = fmt::format("/proc/{}/ns/net", pid);
    own.reset(::open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC));
    const base::Fd other(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    const char* const remedy = ::geteuid() != 0 ? "run it as root" : "it needs CAP_SYS_PTRACE and CAP_SYS_ADMIN";
    if (!own.valid() || !other.valid()) return base::fail_errno(errno, "open " + path, remedy);
    if (::setns(other.get(), CLONE_NEWNET) != 0) return base::fail_errno(errno, "enter " + path, remedy);
  }
  const base::Fd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  const int errnum = errno;
  if (own.valid() && ::setns(own.get(), CLONE_NEWNET) != 0)
    return base::fail_errno(errno, "return to our own network namespace");
  if (!socket.valid()) return base::fail_errno(errnum, "create a socket");
  std::uint64_t cookie = 0;
  socklen_t length = sizeof(cookie);
  constexpr int kSoNetnsCookie = 71;
  if (::getsockopt(socket.get(), SOL_SOCKET, kSoNetnsCookie, &cookie, &length) != 0) {
    return base::fail_errno(errno, "read SO_NETNS_COOKIE");
  }
  return cookie;
}

}  // namespace mesh::cli
