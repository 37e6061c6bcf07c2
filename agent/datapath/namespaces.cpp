// SPDX-License-Identifier: Apache-2.0
#include "datapath/namespaces.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <set>
#include <string>
#include <thread>
#include <utility>

#include "base/fd.hpp"

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif

namespace mesh::datapath {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kHintsPerNamespace = 8;           // processes to look at before all of /proc is searched
constexpr const char* kNamedNamespaces = "/run/netns";  // of ip-netns(8) and container runtimes

bool is_process(const std::string& name) {
  return !name.empty() && std::ranges::all_of(name, [](char c) { return c >= '0' && c <= '9'; });
}

/// One walk; lives on its thread.
class Walk {
 public:
  Walk(const NamespaceQuery& query, const std::function<void()>& visit) : query_(query), visit_(visit) {}

  std::unordered_set<std::uint64_t> run() {
    try_path("/proc/thread-self/ns/net");
    for (const auto& [cookie, pids] : query_.wanted) {
      for (const pid_t pid : pids) {
        if (visited_.contains(cookie)) break;
        if (pid > 0) try_path(fmt::format("/proc/{}/ns/net", pid));
      }
    }
    std::error_code ignored;
    for (fs::directory_iterator it("/proc", ignored), end; !done() && it != end; it.increment(ignored)) {
      if (is_process(it->path().filename().string())) try_path(it->path().string() + "/ns/net");
    }
    for (fs::directory_iterator it(kNamedNamespaces, ignored), end; !done() && it != end; it.increment(ignored)) {
      try_path(it->path().string());
    }
    return std::move(visited_);
  }

 private:
  [[nodiscard]] bool done() const { return !query_.all && found_ >= query_.wanted.size(); }

  void try_path(const std::string& path) {
    struct stat status{};
    if (::stat(path.c_str(), &status) != 0 || seen_.contains({status.st_dev, status.st_ino})) return;
    const base::Fd netns(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    // The process may have gone, and its number been taken, between the two calls: what was opened counts.
    if (!netns.valid() || ::fstat(netns.get(), &status) != 0 || !seen_.insert({status.st_dev, status.st_ino}).second ||
        ::setns(netns.get(), CLONE_NEWNET) != 0) {
      return;
    }
    const auto cookie = current_netns_cookie();
    const bool wanted = cookie && query_.wanted.contains(*cookie);
    if (cookie && !wanted && !query_.all) return;
    visit_();
    found_ += wanted;
    if (cookie) {
      visited_.insert(*cookie);
    } else {
      for (const auto& [known, pids] : query_.wanted) visited_.insert(known);
    }
  }

  const NamespaceQuery& query_;
  const std::function<void()>& visit_;
  std::set<std::pair<dev_t, ino_t>> seen_;
  std::unordered_set<std::uint64_t> visited_;
  std::size_t found_ = 0;  // of those wanted
};

}  // namespace

bool knows_place(const mesh_owner& record) { return (record.flags & MESH_OWNER_FEEDBACK) != 0; }

NamespaceQuery places_of(std::span<const mesh_owner> records) {
  NamespaceQuery query;
  for (const mesh_owner& record : records) {
    if (!knows_place(record)) {
      query.all = true;
      continue;
    }
    auto& hints = query.wanted[record.netns_cookie];
    const auto pid = static_cast<pid_t>(record.pid);
    if (hints.size() < kHintsPerNamespace && std::ranges::find(hints, pid) == hints.end()) hints.push_back(pid);
  }
  return query;
}

base::Result<std::uint64_t> current_netns_cookie() {
  const base::Fd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  std::uint64_t cookie = 0;
  socklen_t length = sizeof(cookie);
  if (socket.valid() && ::getsockopt(socket.get(), SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &length) == 0) return cookie;
  return base::fail_errno(errno, "read the cookie of a network namespace", "Linux 5.14 or later has SO_NETNS_COOKIE");
}

std::unordered_set<std::uint64_t> visit_namespaces(const NamespaceQuery& query, const std::function<void()>& visit) {
  std::unordered_set<std::uint64_t> visited;
  std::thread([&] { visited = Walk(query, visit).run(); }).join();
  return visited;
}

}  // namespace mesh::datapath
