// SPDX-License-Identifier: Apache-2.0
#include "datapath/census.hpp"

#include <sys/stat.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <utility>

#include "datapath/namespaces.hpp"

namespace mesh::datapath {
namespace {

constexpr ino_t kFirstPidNamespace = 0xeffffffc;  // PROC_PID_INIT_INO: the same on every kernel

bool sees_all_processes() {
  struct stat status{};
  return ::stat("/proc/self/ns/pid", &status) == 0 && status.st_ino == kFirstPidNamespace;
}

/// Puts cookies together that arrive in pieces.
class CookieReader {
 public:
  explicit CookieReader(std::unordered_set<std::uint64_t>& cookies) : cookies_(cookies) {}
  void operator()(std::span<const std::byte> bytes) {
    for (const std::byte byte : bytes) {
      reinterpret_cast<std::byte*>(&cookie_)[size_++] = byte;
      if (size_ < sizeof(cookie_)) continue;
      cookies_.insert(cookie_);
      size_ = 0;
    }
  }

 private:
  std::unordered_set<std::uint64_t>& cookies_;
  std::uint64_t cookie_ = 0;
  std::size_t size_ = 0;
};

}  // namespace

base::Result<Census> Census::make(CensusPrograms programs) {
  Census census;
  census.tcp_ = MESH_TRY(SocketIterator::make(programs.tcp));
  census.udp_ = MESH_TRY(SocketIterator::make(programs.udp));
  census.files_ = MESH_TRY(SocketIterator::make(programs.files));
  return census;
}

base::Result<CensusPass> Census::pass(std::span<const mesh_owner> records) const {
  if (!sees_all_processes()) {
    return base::fail(base::ErrorKind::kUnsupported,
                      "look for the sockets of owner records: only a part of the host's processes can be seen",
                      "run the agent in the host's pid namespace (in a pod: hostPID: true)");
  }
  CensusPass pass;
  std::optional<base::Error> error;
  const auto walk = [&](const SocketIterator& iterator) {
    if (auto done = iterator.run(CookieReader(pass.met)); !done && !error) error = std::move(done.error());
  };
  pass.visited = visit_namespaces(places_of(records), [&] {
    walk(tcp_);
    walk(udp_);
  });
  const bool all_met = std::ranges::all_of(records, [&](const auto& one) { return pass.met.contains(one.cookie); });
  if (!all_met) walk(files_);
  if (error) return std::unexpected(std::move(*error));
  return pass;
}

StaleRecords::Verdict StaleRecords::look(std::span<const mesh_owner> records, const CensusPass& pass) {
  Verdict verdict;
  const auto out_of_reach = [&](const mesh_owner& record) {
    return knows_place(record) && !pass.visited.contains(record.netns_cookie);
  };
  const bool all_reached = std::ranges::none_of(records, out_of_reach);
  std::unordered_map<std::uint64_t, std::uint64_t> missed;
  for (const mesh_owner& record : records) {
    if (pass.met.contains(record.cookie)) continue;
    if (knows_place(record) ? out_of_reach(record) : !all_reached) {
      ++verdict.unreachable;
      continue;
    }
    const auto before = missed_.find(record.cookie);
    if (before != missed_.end() && before->second == record.start_ns) {
      verdict.gone.push_back(record);
    } else {
      missed.emplace(record.cookie, record.start_ns);
    }
  }
  missed_ = std::move(missed);
  return verdict;
}

}  // namespace mesh::datapath
