// SPDX-License-Identifier: Apache-2.0
// Which connections have to end, and when. Pure: looks at owner records and routes, takes `now`, names the sockets; who
// resets them is datapath/kill.hpp.
//
// An endpoint is being left when it is no longer in its service (or its service is gone), when its source says
// draining, when an operator drained it, or, where the service says so, when it is down by its probe. Its connections
// stay for the service's timeout from the moment that was first seen, then all of them are due, whatever their backend,
// in one list. Besides, connections beyond their service's max_age are due, a few at a time.
//
// Endpoints are known by the addresses in the records, not by backend ids: that of a removed endpoint stays in
// quarantine while a record names it, so it can't mean another endpoint meanwhile.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/clock.hpp"
#include "mesh_abi.h"
#include "model/routing.hpp"

namespace mesh::health {

enum class DrainReason : std::uint8_t {
  kRemoved,   ///< The endpoint, or its whole service.
  kDraining,  ///< Its source says so.
  kDrained,   ///< By an operator.
  kDown,
  kAge,
};
inline constexpr std::size_t kDrainReasons = 5;
std::string_view to_string(DrainReason reason);  // "removed"

using EndpointKey = std::pair<model::Frontend, base::SocketAddress>;
/// What a record says its connection is to.
[[nodiscard]] EndpointKey endpoint_of(const mesh_owner& record);

/// An operator wants an endpoint to be left.
struct DrainOrder {
  /// Instead of the service's; nothing in it: never.
  std::optional<std::optional<std::chrono::seconds>> timeout;
  base::WallTime since{};
  bool operator==(const DrainOrder&) const = default;
};
using DrainOrders = std::map<EndpointKey, DrainOrder>;

/// An endpoint that is being left and has connections, or an order.
struct LeavingEndpoint {
  std::string service;  ///< Its name; its frontend if nobody knows the name any more.
  model::Frontend frontend;
  base::SocketAddress address;
  DrainReason reason = DrainReason::kRemoved;
  base::WallTime since{};
  std::optional<base::WallTime> deadline;  ///< Nothing: never.
  std::size_t connections = 0;             ///< That live; those reset here and not yet closed are not counted.
  std::uint64_t reset = 0;                 ///< Since it began.
};

/// To an endpoint, by the relay: it knows how many, and ends all of them when it is told to.
struct RelayedConnections {
  EndpointKey key;
  std::size_t count = 0;
};

class DrainPlanner {
 public:
  static constexpr base::Duration kBackoffMin = std::chrono::seconds(1);  ///< Before a socket is tried again.
  static constexpr base::Duration kBackoffMax = std::chrono::seconds(64);
  static constexpr base::Duration kIdle = std::chrono::seconds(10);         ///< Between looks when nothing is to do.
  static constexpr base::Duration kBusy = std::chrono::seconds(1);          ///< While an endpoint is being left.
  static constexpr base::Duration kRelayedAgain = std::chrono::seconds(5);  ///< Before the relay is told again.
  static constexpr std::size_t kAgedShare = 100;  ///< One of so many connections of a service ends for its age, per
  static constexpr base::Duration kAgedInterval = std::chrono::seconds(1);  ///< such an interval.
  static constexpr unsigned kAgeJitter = 5;  ///< A connection's limit is up to a fifth beyond the service's.

  struct Input {
    base::TimePoint now{};
    base::WallTime wall{};
    model::RoutingTablePtr table;  ///< Not null.
    const DrainOrders& orders;
    /// Where the relay's connections may go: the same services with their own endpoints, where `table` has the relay's
    /// ports. Not null if there are any.
    model::RoutingTablePtr relayed_table{};
    std::vector<RelayedConnections> relayed{};
    /// Calls back with every owner record.
    std::function<void(const std::function<void(const mesh_owner&)>&)> for_each_record;
  };
  struct Due {
    mesh_owner record{};
    DrainReason reason = DrainReason::kRemoved;
  };
  struct RelayedDue {
    EndpointKey key;
    DrainReason reason = DrainReason::kRemoved;
    std::size_t count = 0;
  };
  struct Look {
    std::vector<Due> due;
    std::vector<RelayedDue> relayed_due;
    std::vector<LeavingEndpoint> leaving;  ///< Sorted by frontend and address.
    base::TimePoint next{};                ///< When to look again, if table and orders stay as they are.
  };
  Look look(const Input& input);

  /// What became of a socket that was due. One that could not be reset is due again, ever more seldom.
  enum class Attempt : std::uint8_t { kReset, kFailed };
  void tried(const Due& due, Attempt attempt, base::TimePoint now);

  /// Also of a service that is gone while connections to it are not; else its frontend as text.
  [[nodiscard]] std::string name_of(const model::Frontend& frontend) const { return policy_of(frontend).name; }

  /// The age at which this connection ends.
  static base::Duration age_limit(std::uint64_t cookie, std::chrono::seconds max_age);

 private:
  struct Policy {
    std::string name;
    model::DrainPolicy drain;
  };
  struct Leaving {
    DrainReason reason = DrainReason::kRemoved;
    base::TimePoint since{};
    base::TimePoint relay_told{};
    std::uint64_t reset = 0;
    std::uint64_t seen = 0;  ///< The look that saw it last.
  };
  struct Group;
  struct Tried {
    base::TimePoint next{};
    base::Duration backoff{};
    std::uint64_t seen = 0;
  };

  void take_table(const model::RoutingTablePtr& table);
  using Routes = std::unordered_map<model::Frontend, const model::ServiceRoute*, model::FrontendHash>;
  static Routes routes_of(const model::RoutingTable& table);
  Group judge(const EndpointKey& key, const Routes& routes, const Input& input);
  void judge_relayed(std::vector<Group>& groups, const Input& input, Look& look);
  void leave(Group& group, DrainReason reason, std::optional<std::chrono::seconds> timeout, const Input& input);
  [[nodiscard]] Policy policy_of(const model::Frontend& frontend) const;
  bool may_try(const mesh_owner& record, base::TimePoint now, base::TimePoint& next);
  void select_aged(std::vector<Group>& groups, Look& look, base::TimePoint now);
  void list_leaving(const std::vector<Group>& groups, const Input& input, Look& look);

  model::RoutingTablePtr table_;
  Routes routes_;                                                          // of table_
  std::unordered_map<model::Frontend, Policy, model::FrontendHash> gone_;  // services that had connections
  std::map<EndpointKey, Leaving> leaving_;
  std::unordered_map<std::uint64_t, Tried> tried_;  // by cookie, while the record is there
  std::unordered_map<model::Frontend, base::TimePoint, model::FrontendHash> aged_at_;
  std::uint64_t looks_ = 0;
};

}  // namespace mesh::health
