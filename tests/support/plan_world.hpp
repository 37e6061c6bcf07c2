// SPDX-License-Identifier: Apache-2.0
// A small world in which plans are made and applied: tables, sockets, and readers that are under way. It knows at each
// moment what every reader may see, and keeps the rules that the agent's grace periods keep in the kernel.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <unordered_set>
#include <vector>

#include "base/random.hpp"
#include "datapath/compile.hpp"
#include "tests/support/fake_map_store.hpp"
#include "tests/support/routing_builder.hpp"

namespace mesh::support {

/// What FakeReader gives for a service with this route.
std::string reader_text(const model::ServiceRoute& route);

class PlanWorld {
 public:
  PlanWorld(std::uint64_t seed, const datapath::TableSizes& sizes);

  /// A random change, compiled and applied. With `fault`, a random write fails, and what it left behind is recovered
  /// and completed. Returns what is wrong, empty if nothing is.
  std::string change(bool fault);
  /// The agent dies and comes back.
  std::string restart();
  /// A grace period passes: all readers under way end, quarantined things are released.
  std::string pass_grace();
  /// A socket opens to, or closes from, a random backend.
  void turn_over_sockets();

  /// Everything that must hold between two updates: I2 (readers), I3 (ids), I4 (no drift), sockets' backends.
  std::string check();

  [[nodiscard]] std::uint64_t reads() const { return reads_; }
  [[nodiscard]] const datapath::Compiler& compiler() const { return *compiler_; }

 private:
  using Seen = std::map<model::Frontend, std::set<std::string>>;
  struct UnderWay {
    FakeReader reader;
    model::Frontend frontend;
    std::set<std::string> allowed;
  };
  struct Socket {
    std::uint32_t backend_id;
    mesh_backend backend;
  };

  std::string apply(const model::RoutingTablePtr& next, bool fault);
  void read_after_write();
  void finish_readers();
  void complain(std::string what);
  std::string complaint();
  [[nodiscard]] std::unordered_set<std::uint32_t> named() const;

  base::Random random_;
  RandomChanges changes_;
  FakeMapStore store_;
  std::optional<datapath::Compiler> compiler_;
  model::RoutingTablePtr table_ = table({}, 0);
  Seen allowed_;  // by frontend, during the update under way
  std::vector<UnderWay> readers_;
  std::vector<Socket> sockets_;
  std::map<model::Frontend, std::uint32_t> service_ids_;
  std::map<std::pair<model::Frontend, base::SocketAddress>, std::uint32_t> backend_ids_;
  std::uint64_t reads_ = 0;
  std::string complaint_;
};

}  // namespace mesh::support
