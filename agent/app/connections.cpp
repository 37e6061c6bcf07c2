// SPDX-License-Identifier: Apache-2.0
#include "app/connections.hpp"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <vector>

#include "app/target.hpp"
#include "datapath/client_identity.hpp"
#include "datapath/namespaces.hpp"
#include "datapath/own_cgroup.hpp"
#include "datapath/owners.hpp"
#include "datapath/sock_diag.hpp"

namespace mesh::app {
namespace {

namespace fs = std::filesystem;

/// What was found in the namespaces.
struct Seen {
  std::unordered_map<std::uint64_t, datapath::LiveSocket> sockets;  ///< By cookie.
  std::unordered_map<std::uint64_t, std::uint64_t> inodes;          ///< Of namespaces, by cookie.
  std::vector<std::string> unreachable;
};

void note_namespace(const std::unordered_set<std::uint64_t>& wanted, Seen& seen) {
  struct stat info{};
  const auto cookie = datapath::current_netns_cookie();
  const bool known = ::stat("/proc/thread-self/ns/net", &info) == 0;
  if (cookie && known) seen.inodes[*cookie] = info.st_ino;
  const auto read = datapath::read_tcp_sockets([&](std::uint64_t id, const datapath::LiveSocket& socket) {
    if (wanted.contains(id)) seen.sockets.emplace(id, socket);
  });
  if (!read) seen.unreachable.push_back(fmt::format("namespace {}: {}", info.st_ino, read.error().to_string()));
}

Seen look_at_sockets(const std::vector<mesh_owner>& owners) {
  const datapath::NamespaceQuery query = datapath::places_of(owners);
  std::unordered_set<std::uint64_t> wanted;
  for (const mesh_owner& owner : owners) wanted.insert(owner.cookie);
  Seen seen;
  if (owners.empty()) return seen;
  const auto visited = datapath::visit_namespaces(query, [&] { note_namespace(wanted, seen); });
  for (const auto& [cookie, pids] : query.wanted) {
    if (visited.contains(cookie)) continue;
    seen.unreachable.push_back(fmt::format("namespace with cookie {} (pid {}): no process and no name leads there",
                                           cookie, pids.empty() ? 0 : pids.front()));
  }
  return seen;
}

constexpr std::string_view kStates =
    "established, syn_sent, syn_recv, fin_wait1, fin_wait2, time_wait, close_wait, last_ack, listen, closing, closed; "
    "connected for UDP";

bool is_state(std::string_view text) {
  constexpr std::uint8_t kTcpStates = 12;
  if (text == "connected") return true;
  for (std::uint8_t state = 0; state < kTcpStates; ++state) {
    if (datapath::tcp_state_name(state) == text) return true;
  }
  return false;
}

api::ConnectionView row(const mesh_owner& owner, std::string_view service, const Seen& seen, const CgroupPaths& cgroups,
                        base::TimePoint now) {
  api::ConnectionView view;
  view.cookie = owner.cookie;
  view.service = service;
  view.frontend = frontend_of(owner).to_string();
  view.backend = backend_of(owner).to_string();
  const auto age = now.time_since_epoch() - base::Duration(static_cast<std::int64_t>(owner.start_ns));
  view.age_s = std::max(0.0, std::chrono::duration<double>(age).count());
  if ((owner.flags & MESH_OWNER_RELAY) != 0) view.path = "relay";
  view.feedback = datapath::knows_place(owner);
  if (view.feedback) {
    view.pid = owner.pid;
    view.process = process_of(owner);
    view.cgroup_id = owner.cgroup_id;
    view.cgroup = cgroups.path(owner.cgroup_id);
    view.netns_cookie = owner.netns_cookie;
    if (const auto inode = seen.inodes.find(owner.netns_cookie); inode != seen.inodes.end()) {
      view.netns_inode = inode->second;
      if (owner.proto == IPPROTO_TCP) view.state = "closed";  // unless it is listed
    }
    if (owner.connect_us != 0) view.connect_us = owner.connect_us;
  }
  if (owner.proto != IPPROTO_TCP) view.state = "connected";
  const auto socket = seen.sockets.find(owner.cookie);
  if (socket == seen.sockets.end()) return view;
  view.state = datapath::tcp_state_name(socket->second.state);
  view.local = socket->second.local.to_string();
  view.bytes_out = socket->second.bytes_out;
  view.bytes_in = socket->second.bytes_in;
  view.retransmits = socket->second.retransmits;
  if (socket->second.srtt_us != 0) view.srtt_us = socket->second.srtt_us;
  return view;
}

api::FlowView flow_row(const observe::FlowLog::Flow& flow, std::string_view service, const CgroupPaths& cgroups,
                       base::TimePoint now, base::WallTime wall) {
  const mesh_event& event = flow.event;
  const mesh_owner& owner = event.owner;
  const auto ended = base::Duration(static_cast<std::int64_t>(event.end_ns));
  api::FlowView view;
  view.id = flow.id;
  view.time = base::format_rfc3339(wall - (now.time_since_epoch() - ended));
  view.service = service;
  view.frontend = frontend_of(owner).to_string();
  view.backend = backend_of(owner).to_string();
  view.pid = owner.pid;
  view.process = process_of(owner);
  view.cgroup_id = owner.cgroup_id;
  view.cgroup = cgroups.path(owner.cgroup_id);
  view.netns_cookie = owner.netns_cookie;
  if ((owner.flags & MESH_OWNER_RELAY) != 0) view.path = "relay";
  view.outcome = observe::outcome_name(owner.outcome);
  view.failed = observe::is_failure(owner.outcome);
  if (owner.connect_us != 0) view.connect_us = owner.connect_us;
  view.duration_s = static_cast<double>(event.end_ns - owner.start_ns) * 1e-9;
  view.bytes_out = event.bytes_out;
  view.bytes_in = event.bytes_in;
  if (event.srtt_us != 0) view.srtt_us = event.srtt_us;
  view.retransmits = event.retransmits;
  return view;
}

base::IpAddress address_of(const __u8 (&bytes)[16]) {
  base::IpAddress ip;
  std::memcpy(ip.bytes.data(), bytes, sizeof(bytes));
  return ip;
}

}  // namespace

model::Frontend frontend_of(const mesh_owner& owner) {
  return {{address_of(owner.frontend_addr), ntohs(owner.frontend_port_be)},
          owner.proto == IPPROTO_UDP ? model::Protocol::kUdp : model::Protocol::kTcp};
}

base::SocketAddress backend_of(const mesh_owner& owner) {
  return {address_of(owner.backend_addr), ntohs(owner.backend_port_be)};
}

std::string process_of(const mesh_owner& owner) { return {owner.comm, ::strnlen(owner.comm, sizeof(owner.comm))}; }

ServiceNames::ServiceNames(const model::SnapshotPtr& snapshot, std::string_view ignored) : snapshot_(snapshot) {
  if (!snapshot) return;
  for (const auto& service : snapshot->services) {
    auto& name = names_[service->frontend];
    if (service->source != ignored) name = service->name;
  }
}

std::optional<std::string_view> ServiceNames::name(const model::Frontend& frontend) const {
  const auto found = names_.find(frontend);
  return found == names_.end() ? std::string_view() : found->second;
}

base::Result<void> ServiceNames::expect(const std::string& filter) const {
  if (filter.empty() || !snapshot_) return {};
  const Target target = MESH_TRY(Target::parse(filter));
  const auto found = MESH_TRY(find_services(*snapshot_, target));
  if (!found.empty()) return {};
  return base::fail(base::ErrorKind::kNotFound, "find service " + filter + ": no service has this address",
                    "`meshctl services` lists them");
}

CgroupPaths::CgroupPaths(const std::string& root, std::unordered_set<std::uint64_t> ids) {
  const auto look = [&](const std::string& folder) {
    const auto id = datapath::cgroup_id(folder);
    if (!id || ids.erase(*id) == 0) return;
    paths_[*id] = folder.size() == root.size() ? "/" : folder.substr(root.size());
  };
  look(root);
  std::error_code ignored;
  for (fs::recursive_directory_iterator it(root, fs::directory_options::skip_permission_denied, ignored), end;
       it != end && !ids.empty(); it.increment(ignored)) {
    if (it->is_directory(ignored)) look(it->path().string());
  }
}

std::string CgroupPaths::path(std::uint64_t id) const {
  const auto found = paths_.find(id);
  return found == paths_.end() ? "" : found->second;
}

bool cgroup_matches(std::string_view path, std::string_view wanted) {
  if (wanted.starts_with('/')) return !path.empty() && datapath::is_within(path, wanted);
  while (!path.empty()) {
    path.remove_prefix(1);  // the slash
    const std::string_view part = path.substr(0, path.find('/'));
    if (part == wanted) return true;
    path.remove_prefix(part.size());
  }
  return false;
}

base::Result<ConnectionMatcher> ConnectionMatcher::make(const api::ConnectionFilter& filter) {
  ConnectionMatcher matcher;
  matcher.filter_ = filter;
  if (!filter.service.empty()) {
    const Target target = MESH_TRY(Target::parse(filter.service));
    matcher.service_ = target.name;
    matcher.port_ = target.port;
    matcher.frontend_ = target.address;
  }
  if (!filter.backend.empty()) {
    if (const auto address = base::SocketAddress::parse(filter.backend)) {
      matcher.backend_ip_ = address->ip;
      matcher.backend_port_ = address->port;
    } else {
      matcher.backend_ip_ = MESH_TRY(base::IpAddress::parse(filter.backend));
    }
  }
  return matcher;
}

bool ConnectionMatcher::matches(const mesh_owner& owner, std::string_view service_name) const {
  if (filter_.pid != 0 && (!datapath::knows_place(owner) || owner.pid != filter_.pid)) return false;
  if (backend_ip_ || frontend_ || !service_.empty()) {
    const model::Frontend frontend = frontend_of(owner);
    const base::SocketAddress backend = backend_of(owner);
    if (backend_ip_ && backend.ip != *backend_ip_) return false;
    if (backend_port_ != 0 && backend.port != backend_port_) return false;
    if (frontend_ && frontend.address != *frontend_) return false;
    if (!service_.empty() && service_name != service_) return false;
    if (port_ && frontend.address.port != *port_) return false;
  }
  return true;
}

base::Result<api::ConnectionList> list_connections(const datapath::MapSet& maps, const std::string& cgroup_root,
                                                   const ServiceNames& names, const api::ConnectionRequest& request,
                                                   base::TimePoint now) {
  const ConnectionMatcher matcher = MESH_TRY(ConnectionMatcher::make(request.filter));
  if (!request.state.empty() && !is_state(request.state)) {
    return base::fail(base::ErrorKind::kInvalid,
                      "list connections in state '" + request.state + "': there is no such state",
                      "use one of " + std::string(kStates));
  }
  std::vector<mesh_owner> owners;
  std::unordered_set<std::uint64_t> cgroup_ids;
  {
    const auto memory = MESH_TRY(datapath::OwnerMemory::map(maps, datapath::Access::kRead));
    memory.for_each([&](const mesh_owner& owner) {
      const auto name = names.name(frontend_of(owner));
      if (!name || !matcher.matches(owner, *name)) return;
      owners.push_back(owner);
      if (datapath::knows_place(owner)) cgroup_ids.insert(owner.cgroup_id);
    });
  }
  const CgroupPaths cgroups(cgroup_root, std::move(cgroup_ids));
  if (matcher.wants_cgroup()) {
    std::erase_if(owners, [&](const mesh_owner& owner) {
      return !datapath::knows_place(owner) || !matcher.matches_cgroup(cgroups.path(owner.cgroup_id));
    });
  }
  std::ranges::sort(owners, {}, &mesh_owner::cookie);  // the kernel numbers sockets in order
  api::ConnectionList list;
  // What only the sockets tell is asked of all records; otherwise those that are shown are enough.
  const bool joined = matcher.wants_namespace() || !request.state.empty();
  if (!joined && owners.size() > request.limit) {
    list.total = owners.size() - request.limit;
    owners.resize(request.limit);
  }
  Seen seen = look_at_sockets(owners);
  for (const mesh_owner& owner : owners) {
    auto view = row(owner, *names.name(frontend_of(owner)), seen, cgroups, now);
    if (matcher.wants_namespace() && !matcher.matches_namespace(view.netns_cookie, view.netns_inode)) continue;
    if (!request.state.empty() && view.state != request.state) continue;
    ++list.total;
    if (list.items.size() < request.limit) list.items.push_back(std::move(view));
  }
  if (list.total == 0) MESH_CHECK(names.expect(request.filter.service));  // one that is gone may have connections still
  list.truncated = list.total - list.items.size();
  list.unreachable = std::move(seen.unreachable);
  return list;
}

base::Result<api::FlowList> list_flows(const observe::FlowLog& log, const std::string& cgroup_root,
                                       const ServiceNames& names, const api::FlowRequest& request, base::TimePoint now,
                                       base::WallTime wall) {
  const ConnectionMatcher matcher = MESH_TRY(ConnectionMatcher::make(request.filter));
  const auto outcome = observe::outcome_from(request.outcome);
  if (!request.outcome.empty() && !outcome) {
    return base::fail(base::ErrorKind::kInvalid, "list flows of outcome '" + request.outcome + "': there is none",
                      "closed, refused, timed_out, unreachable, aborted, reset, lost, reset_by_us, killed");
  }
  // A cgroup is resolved once, whatever the number of its flows; what the log overwrote meanwhile is not asked for.
  std::unordered_set<std::uint64_t> cgroup_ids;
  if (matcher.wants_cgroup()) {
    (void)log.read(0, observe::FlowLog::kFlowsMax, [&](const mesh_event& event) {
      cgroup_ids.insert(event.owner.cgroup_id);
      return false;
    });
  }
  std::optional<CgroupPaths> cgroups;
  if (matcher.wants_cgroup()) cgroups.emplace(cgroup_root, std::move(cgroup_ids));
  const auto page = log.read(request.after, request.limit, [&](const mesh_event& event) {
    const mesh_owner& owner = event.owner;
    if (outcome && owner.outcome != *outcome) return false;
    if (request.failed && !observe::is_failure(owner.outcome)) return false;
    const auto name = names.name(frontend_of(owner));
    if (!name || !matcher.matches(owner, *name)) return false;
    if (matcher.wants_namespace() && !matcher.matches_namespace(owner.netns_cookie, owner.netns_cookie)) return false;
    return !matcher.wants_cgroup() || matcher.matches_cgroup(cgroups->path(owner.cgroup_id));
  });
  if (!cgroups) {
    std::unordered_set<std::uint64_t> ids;
    for (const auto& flow : page.flows) ids.insert(flow.event.owner.cgroup_id);
    cgroups.emplace(cgroup_root, std::move(ids));
  }
  if (page.flows.empty() && request.after == 0) MESH_CHECK(names.expect(request.filter.service));
  api::FlowList list;
  for (const auto& flow : page.flows) {
    list.items.push_back(flow_row(flow, *names.name(frontend_of(flow.event.owner)), *cgroups, now, wall));
  }
  list.next = page.next;
  list.read = page.read;
  list.dropped_by_log = page.missed;
  return list;
}

}  // namespace mesh::app
