// SPDX-License-Identifier: Apache-2.0
#include "datapath/guard.hpp"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <vector>

#include "base/fd.hpp"
#include "mesh_abi.h"

namespace mesh::datapath {
namespace {

mesh_guard_key key_of(const base::SocketAddress& endpoint) {
  mesh_guard_key key{};
  std::ranges::copy(endpoint.ip.bytes, key.addr);
  key.port_be = htons(endpoint.port);
  return key;
}

std::uint64_t until_of(const GuardedEndpoint& endpoint) {
  const bool for_good = endpoint.until == std::chrono::nanoseconds::max();
  return for_good ? MESH_FOREVER : static_cast<std::uint64_t>(std::max<std::int64_t>(endpoint.until.count(), 0));
}

base::Result<void> full(int errnum, const std::string& what) {
  if (errnum != E2BIG) return base::fail_errno(errnum, what);
  return base::fail(base::ErrorKind::kExhausted,
                    what + ": all " + std::to_string(MESH_GUARDED_MAX) + " endpoints that can be guarded are taken",
                    "leave plaintext of some services of relay.mesh.services unwatched");
}

std::vector<mesh_guard_counts> one_per_cpu() {
  return std::vector<mesh_guard_counts>(static_cast<std::size_t>(std::max(1, ::libbpf_num_possible_cpus())));
}

}  // namespace

base::Result<void> Guard::update(const GuardedEndpoints& wanted) {
  if (wanted.empty()) {
    if (::unlink(pin_.c_str()) != 0 && errno != ENOENT) return base::fail_errno(errno, "remove link " + pin_);
    attached_ = false;
  }
  auto written = write(wanted);
  if (wanted.empty() || attached_) return written;
  MESH_CHECK(attach());  // once the tables say all: what an earlier agent refused is not let through meanwhile
  attached_ = true;
  return written;
}

base::Result<void> Guard::write(const GuardedEndpoints& wanted) {
  std::set<std::uint32_t> services;
  for (const auto& [endpoint, what] : wanted) services.insert(what.service);
  const std::vector<mesh_guard_counts> zero = one_per_cpu();
  for (const std::uint32_t service : services) {
    if (services_.contains(service)) continue;
    if (::bpf_map_update_elem(programs_.counts, &service, zero.data(), BPF_NOEXIST) != 0) {
      return base::fail_errno(errno, "count plaintext to service " + std::to_string(service));
    }
    services_.insert(service);
  }
  for (const auto& [endpoint, what] : wanted) {
    if (const auto before = written_.find(endpoint); before != written_.end() && before->second == what) continue;
    const mesh_guard_key key = key_of(endpoint);
    const mesh_guarded value{.until_ns = until_of(what), .service = what.service, .zero = 0};
    if (::bpf_map_update_elem(programs_.guarded, &key, &value, BPF_ANY) != 0) {
      return full(errno, "guard endpoint " + endpoint.to_string());
    }
    written_[endpoint] = what;
  }
  for (auto one = written_.begin(); one != written_.end();) {
    if (wanted.contains(one->first)) {
      ++one;
      continue;
    }
    const mesh_guard_key key = key_of(one->first);
    if (::bpf_map_delete_elem(programs_.guarded, &key) != 0 && errno != ENOENT) {
      return base::fail_errno(errno, "guard endpoint " + one->first.to_string() + " no longer");
    }
    one = written_.erase(one);
  }
  std::erase_if(services_, [&](const std::uint32_t service) {
    return !services.contains(service) && ::bpf_map_delete_elem(programs_.counts, &service) == 0;
  });
  return {};
}

/// Takes an earlier agent's place at one instant, if it was in this namespace; its own may be gone.
base::Result<void> Guard::attach() {
  const base::Fd here(::open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC));
  struct stat status{};
  if (!here.valid() || ::fstat(here.get(), &status) != 0) return base::fail_errno(errno, "open /proc/self/ns/net");
  if (const base::Fd pinned(::bpf_obj_get(pin_.c_str())); pinned.valid()) {
    bpf_link_info info{};
    std::uint32_t length = sizeof(info);
    const bool read = ::bpf_obj_get_info_by_fd(pinned.get(), &info, &length) == 0;
    if (read && info.netns.netns_ino == status.st_ino) {
      if (::bpf_link_update(pinned.get(), programs_.guard, nullptr) == 0) return {};
      return base::fail_errno(errno, "update link " + pin_);
    }
    if (::unlink(pin_.c_str()) != 0) return base::fail_errno(errno, "remove link " + pin_);
  }
  const base::Fd link(::bpf_link_create(programs_.guard, here.get(), BPF_SK_LOOKUP, nullptr));
  if (!link.valid()) return base::fail_errno(errno, "attach to the look-up of sockets");
  if (::bpf_obj_pin(link.get(), pin_.c_str()) != 0) return base::fail_errno(errno, "pin " + pin_);
  return {};
}

base::Result<GuardCounts> Guard::counts(std::uint32_t service) const {
  std::vector<mesh_guard_counts> per_cpu = one_per_cpu();
  if (::bpf_map_lookup_elem(programs_.counts, &service, per_cpu.data()) != 0) {
    return base::fail_errno(errno, "read the counts of service " + std::to_string(service));
  }
  GuardCounts counts;
  std::uint64_t seen = 0;
  for (const mesh_guard_counts& one : per_cpu) {
    counts.taken += one.taken;
    counts.refused += one.refused;
    if (one.seen_ns <= seen) continue;
    seen = one.seen_ns;
    base::IpAddress source;
    std::ranges::copy(one.source, source.bytes.begin());
    counts.source = source;
  }
  return counts;
}

}  // namespace mesh::datapath
