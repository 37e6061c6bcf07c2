// SPDX-License-Identifier: Apache-2.0
// Owner records, and events of those that ended, as rows for people: names for ids, and what the kernel's sockets say.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>

#include "api/connections.hpp"
#include "base/clock.hpp"
#include "base/error.hpp"
#include "datapath/maps.hpp"
#include "model/health_view.hpp"
#include "model/snapshot.hpp"
#include "observe/flows.hpp"

namespace mesh::app {

model::Frontend frontend_of(const mesh_owner& owner);
base::SocketAddress backend_of(const mesh_owner& owner);
std::string process_of(const mesh_owner& owner);

/// The names of services by frontend; those of `ignored` sources (the canary's) are known as such.
class ServiceNames {
 public:
  ServiceNames(const model::SnapshotPtr& snapshot, std::string_view ignored);
  /// "" for a service that is gone, nothing for one that is ignored.
  [[nodiscard]] std::optional<std::string_view> name(const model::Frontend& frontend) const;
  /// kNotFound, with a suggestion, unless a service is meant by `filter`, which is what was asked for.
  [[nodiscard]] base::Result<void> expect(const std::string& filter) const;

 private:
  model::SnapshotPtr snapshot_;  ///< Whose names these are.
  std::unordered_map<model::Frontend, std::optional<std::string_view>, model::FrontendHash> names_;
};

/// Cgroup ids (inodes) to paths below the mount, by walking the tree: needs no capability.
class CgroupPaths {
 public:
  /// Finds the paths of `ids`; some 10 us a cgroup of the host.
  CgroupPaths(const std::string& root, std::unordered_set<std::uint64_t> ids);
  explicit CgroupPaths(std::unordered_map<std::uint64_t, std::string> paths) : paths_(std::move(paths)) {}
  [[nodiscard]] std::string path(std::uint64_t id) const;  ///< "": gone

 private:
  std::unordered_map<std::uint64_t, std::string> paths_;
};

/// Whether `path` is `wanted` or below it; without a leading slash, whether one of its parts has this name.
bool cgroup_matches(std::string_view path, std::string_view wanted);

/// Decides on records; the cgroup and the namespace's inode are asked of the row. Pure.
class ConnectionMatcher {
 public:
  /// kInvalid: a service or backend that can't be one. A service that is gone still has connections: by its address.
  static base::Result<ConnectionMatcher> make(const api::ConnectionFilter& filter);

  [[nodiscard]] bool matches(const mesh_owner& owner, std::string_view service_name) const;
  [[nodiscard]] bool wants_cgroup() const { return !filter_.cgroup.empty(); }
  [[nodiscard]] bool wants_namespace() const { return filter_.netns != 0; }
  [[nodiscard]] bool matches_cgroup(std::string_view path) const { return cgroup_matches(path, filter_.cgroup); }
  [[nodiscard]] bool matches_namespace(std::uint64_t cookie, std::uint64_t inode) const {
    return filter_.netns == cookie || filter_.netns == inode;
  }

 private:
  api::ConnectionFilter filter_;
  std::string service_;                          ///< Name; empty: by address, or any.
  std::optional<std::uint16_t> port_;            ///< With the name.
  std::optional<base::SocketAddress> frontend_;  ///< Instead of a name.
  std::optional<base::IpAddress> backend_ip_;
  std::uint16_t backend_port_ = 0;  ///< 0: any
};

/// All that match. Blocks: a walk over the records, one over the cgroups, and one over the sockets of each namespace
/// that has records.
base::Result<api::ConnectionList> list_connections(const datapath::MapSet& maps, const std::string& cgroup_root,
                                                   const ServiceNames& names, const api::ConnectionRequest& request,
                                                   base::TimePoint now);

/// Connections that ended. `now` and `wall` are the same moment. Blocks for a walk over the cgroups.
base::Result<api::FlowList> list_flows(const observe::FlowLog& log, const std::string& cgroup_root,
                                       const ServiceNames& names, const api::FlowRequest& request, base::TimePoint now,
                                       base::WallTime wall);

}  // namespace mesh::app
