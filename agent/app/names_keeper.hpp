// SPDX-License-Identifier: Apache-2.0
// Keeps the responder of names supplied: with the names of what is in force, with the namespaces that have clients, and
// the datapath with the resolvers that are stood in for, as services of kInternalSource.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "app/config.hpp"
#include "discovery/source.hpp"
#include "names/places.hpp"
#include "names/responder.hpp"

namespace mesh::app {

class NamesKeeper {
 public:
  struct Options {
    NamesSettings settings;
    std::vector<std::string> cgroup_folders;  ///< Of the attached cgroups, whole paths.
    std::string own_folder;                   ///< The agent's own leaf.
    std::vector<std::string> hidden;          ///< Sources whose services have no names.
    std::function<base::Result<void>(int fd)> mark;
    std::function<void(discovery::UpdatePtr)> publish;
  };

  explicit NamesKeeper(Options options);
  base::Result<void> start();
  void stop() { responder_.stop(); }

  /// The services in force have changed, perhaps.
  void set_services(const model::SnapshotPtr& snapshot);
  /// Looks where clients are; on a thread that may take its time.
  void look();
  [[nodiscard]] names::ResponderStats stats() const { return responder_.stats(); }

 private:
  void publish_resolvers();

  const Options options_;
  names::Responder responder_;
  names::ResolverPorts ports_;
  std::vector<base::SocketAddress> always_;  ///< Resolvers that the configuration names.
  std::size_t published_ = 0;
  std::uint64_t generation_ = 0;
  bool full_said_ = false;
  model::SnapshotPtr named_;  ///< What the zone in force was made of.
};

}  // namespace mesh::app
