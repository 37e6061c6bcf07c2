// SPDX-License-Identifier: Apache-2.0
#include "datapath/kill.hpp"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <netinet/in.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <unordered_map>
#include <utility>

#include "datapath/namespaces.hpp"
#include "datapath/owners.hpp"
#include "datapath/sock_diag.hpp"

namespace mesh::datapath {
namespace {

/// Runs an iterator over the calling thread's network namespace. Its program writes nothing.
base::Result<void> walk(const SocketIterator& iterator) {
  return iterator.run([](std::span<const std::byte>) {});
}

base::SocketAddress backend_of(const mesh_owner& record) {
  base::SocketAddress address;
  std::ranges::copy(record.backend_addr, address.ip.bytes.begin());
  address.port = ntohs(record.backend_port_be);
  return address;
}

/// Whether the socket still has the record of the same connection.
bool still_there(const OwnerMemory& memory, const mesh_owner& record) {
  const auto now = memory.find(record.cookie);
  return now && now->backend_id == record.backend_id && now->backend_generation == record.backend_generation;
}

bool any_of_protocol(std::span<const mesh_owner> records, std::uint8_t protocol) {
  return std::ranges::any_of(records, [&](const mesh_owner& record) { return record.proto == protocol; });
}

void note(KillReport& report, base::Result<void> done) {
  if (!done && !report.error) report.error = std::move(done.error());
}

}  // namespace

std::string_view to_string(KillOutcome outcome) {
  switch (outcome) {
    case KillOutcome::kKilled:
      return "killed";
    case KillOutcome::kGone:
      return "gone";
    case KillOutcome::kMissed:
      return "missed";
    case KillOutcome::kRefused:
      return "refused";
    case KillOutcome::kUnreachable:
      return "unreachable";
  }
  return "?";
}

std::size_t KillReport::count(KillOutcome outcome) const {
  return static_cast<std::size_t>(std::ranges::count(outcomes, outcome));
}

base::Result<Killer> Killer::with_iterators(const MapSet& maps, KillPrograms programs) {
  Killer killer(maps);
  killer.tcp_ = MESH_TRY(SocketIterator::make(programs.tcp));
  killer.udp_ = MESH_TRY(SocketIterator::make(programs.udp));
  killer.doomed_ = programs.doomed;
  return killer;
}

KillReport Killer::kill(std::span<const mesh_owner> records) const {
  const base::TimePoint begin = base::steady_now();
  KillReport report;
  report.outcomes.reserve(records.size());
  while (!records.empty()) {
    const auto some = records.first(std::min<std::size_t>(records.size(), MESH_DOOMED_MAX));
    kill_some(some, report);
    ++report.passes;
    records = records.subspan(some.size());
  }
  report.duration = base::steady_now() - begin;
  return report;
}

/// What one pass over the namespaces found.
struct Killer::Met {
  std::unordered_map<std::uint64_t, std::uint32_t> outcomes;  ///< cookie -> MESH_DOOMED_*
  std::unordered_set<std::uint64_t> visited;                  ///< Namespaces.
};

void Killer::walk_iterators(std::span<const mesh_owner> records, Met& met, KillReport& report) const {
  for (const mesh_owner& record : records) {
    const mesh_doomed entry{record.backend_id, record.backend_generation, 0, 0};
    if (::bpf_map_update_elem(doomed_, &record.cookie, &entry, BPF_ANY) != 0) {
      note(report, base::fail_errno(errno, "put a socket on the list of those to reset"));
    }
  }
  met.visited = visit_namespaces(places_of(records), [&] {
    ++report.namespaces;
    if (any_of_protocol(records, IPPROTO_TCP)) note(report, walk(tcp_));
    if (any_of_protocol(records, IPPROTO_UDP)) note(report, walk(udp_));
  });
  for (const mesh_owner& record : records) {
    mesh_doomed entry{};
    if (::bpf_map_lookup_elem(doomed_, &record.cookie, &entry) == 0) met.outcomes[record.cookie] = entry.outcome;
    ::bpf_map_delete_elem(doomed_, &record.cookie);
  }
}

void Killer::ask_sock_diag(std::span<const mesh_owner> records, Met& met, KillReport& report) const {
  const auto memory = OwnerMemory::map(*maps_, Access::kRead);
  if (!memory) return note(report, std::unexpected(memory.error()));
  std::unordered_map<std::uint64_t, const mesh_owner*> doomed;
  for (const mesh_owner& record : records) doomed.emplace(record.cookie, &record);
  const auto wanted = [&](const DiagSocket& socket) {
    const auto found = doomed.find(socket.cookie);
    return found != doomed.end() && socket.peer == backend_of(*found->second) && still_there(*memory, *found->second);
  };
  const auto destroyed = [&](const DiagSocket& socket, bool ok) {
    met.outcomes[socket.cookie] = ok ? MESH_DOOMED_KILLED : MESH_DOOMED_REFUSED;
  };
  met.visited = visit_namespaces(places_of(records), [&] {
    ++report.namespaces;
    for (const std::uint8_t protocol : std::array<std::uint8_t, 2>{IPPROTO_TCP, IPPROTO_UDP}) {
      if (any_of_protocol(records, protocol)) note(report, destroy_sockets(protocol, wanted, destroyed));
    }
  });
}

void Killer::kill_some(std::span<const mesh_owner> records, KillReport& report) const {
  Met met;
  if (uses_iterators()) {
    walk_iterators(records, met, report);
  } else {
    ask_sock_diag(records, met, report);
  }
  const auto memory = OwnerMemory::map(*maps_, Access::kRead);
  if (!memory) note(report, std::unexpected(memory.error()));
  std::unordered_map<std::uint64_t, std::size_t> unreachable;  // netns cookie -> index into the report
  for (const mesh_owner& record : records) {
    const std::uint32_t outcome = met.outcomes[record.cookie];
    if (outcome != 0) {
      report.outcomes.push_back(outcome == MESH_DOOMED_KILLED ? KillOutcome::kKilled : KillOutcome::kRefused);
    } else if (memory && !still_there(*memory, record)) {
      report.outcomes.push_back(KillOutcome::kGone);
    } else if (!knows_place(record) || met.visited.contains(record.netns_cookie)) {
      report.outcomes.push_back(KillOutcome::kMissed);
    } else {
      report.outcomes.push_back(KillOutcome::kUnreachable);
      const auto [at, is_new] = unreachable.emplace(record.netns_cookie, report.unreachable.size());
      if (is_new) report.unreachable.push_back({.example = record});
      ++report.unreachable[at->second].sockets;
    }
  }
}

}  // namespace mesh::datapath
