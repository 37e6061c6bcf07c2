// SPDX-License-Identifier: Apache-2.0
// Plaintext to this node's workloads of the mesh (`plaintext` of relay.mesh.services): what is taken until when, as the
// kernel is told, and what came. Not of several threads at once.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "api/relay.hpp"
#include "base/clock.hpp"
#include "datapath/guard.hpp"
#include "relay/mesh.hpp"
#include "relay/settings.hpp"

namespace mesh::app {

/// The same moment on two clocks.
struct Moment {
  base::WallTime wall;
  base::Duration boot;  ///< Since boot, suspend included.
};

struct PlaintextPlan {
  datapath::GuardedEndpoints guarded;
  std::vector<api::PlaintextView> services;  ///< That are watched, as ordered; what came is not in it.
};

/// Pure. `services`: how the settings' services are routed, as relay_services() says. An endpoint of several services
/// is judged by the strictest, and counted for it. Of `before`, ends that differ by less than a second stay.
PlaintextPlan plan_plaintext(const relay::MeshSettings& mesh, const std::vector<api::RelayService>& services,
                             const std::function<std::uint32_t(const std::string& service)>& number_of, Moment now,
                             const datapath::GuardedEndpoints& before);

class PlaintextKeeper {
 public:
  using MakeGuard = std::function<base::Result<datapath::Guard>()>;
  explicit PlaintextKeeper(MakeGuard make_guard) : make_guard_(std::move(make_guard)) {}

  /// To be called every second: clocks are set, and counts are read.
  void update(const relay::MeshSettings& mesh, const std::vector<api::RelayService>& services, Moment now);
  [[nodiscard]] const std::vector<api::PlaintextView>& view() const { return view_; }

 private:
  [[nodiscard]] base::Result<void> guard(const datapath::GuardedEndpoints& wanted);
  void count(api::PlaintextView& service);

  const MakeGuard make_guard_;
  std::optional<datapath::Guard> guard_;
  datapath::GuardedEndpoints guarded_;
  std::map<std::string, std::uint32_t> numbers_;  ///< By service; nobody gets another's.
  std::vector<api::PlaintextView> view_;
  std::string error_;  ///< As it was said last.
  relay::SaidOnce said_;
};

}  // namespace mesh::app
