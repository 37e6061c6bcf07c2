// SPDX-License-Identifier: Apache-2.0
// Outlier ejection: who gets no new connections for a while, because those it got went wrong. Pure: takes `now` and
// what connections experienced since the last look, returns what changed.
//
// An endpoint is ejected when enough connections in a row failed, or enough of those within a sliding window. It stays
// out for the base time times its ejections in a row, at most the maximum; then it is on probation with a share of its
// connections: enough successes bring it back, one failure puts it out again. For each ejection time that it then stays
// in, one ejection is forgotten.
//
// Of the endpoints that could serve (not draining, weight above 0) at most max_percent are out or on probation, but one
// always may if there is another one that is used: a service never loses its last endpoint by this. What is not done
// for that is withheld, and said once.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/clock.hpp"
#include "health/standing_board.hpp"
#include "model/routing.hpp"

namespace mesh::health {

/// How connections go wrong, as far as it counts here.
enum class Mishap : std::uint8_t { kRefused, kTimedOut, kUnreachable, kReset, kAborted, kTls };
inline constexpr std::size_t kMishaps = 6;
std::string_view to_string(Mishap mishap);  ///< "timed out"

/// What connections to one endpoint experienced since the last look.
struct Experience {
  base::SocketAddress endpoint;
  std::uint64_t opened = 0;
  std::uint64_t successes = 0;
  std::array<std::uint64_t, kMishaps> mishaps{};
  std::optional<std::uint64_t> in_row;  ///< Failures since the last success; nothing: to be counted here.

  [[nodiscard]] std::uint64_t failures() const;
};

struct ServiceExperience {
  model::Frontend frontend;
  std::vector<Experience> endpoints;
};

enum class EjectionCause : std::uint8_t {
  kConsecutive,  ///< Out: failures in a row.
  kRate,         ///< Out: share of failures in the window.
  kRelapse,      ///< Out: failed on probation.
  kTimeUp,       ///< On probation: the ejection is over.
  kRestart,      ///< On probation: was out when the agent started.
  kRecovered,    ///< Back: enough successes on probation.
  kShare,        ///< Still on probation, with another share: the settings changed.
  kOff,          ///< Back: the service has no ejection any more.
  kGone,         ///< The endpoint or its service is gone.
  kWithheld,     ///< Stays in: too many are out already.
};
std::string_view to_string(EjectionCause cause);  ///< "consecutive_failures"; a label of metrics

struct EjectionChange {
  model::ServicePtr service;  ///< Null: gone.
  model::Frontend frontend;
  base::SocketAddress endpoint;
  EjectionCause cause = EjectionCause::kGone;
  EjectionAspect aspect;  ///< As it is now; of kWithheld only the reason is new.
};
using EjectionChanges = std::vector<EjectionChange>;

/// The endpoints of one service.
class ServiceOutliers {
 public:
  /// From the endpoints' own news to what changes for the service. `route` is of the service; its eligibility says who
  /// else could serve.
  void look(base::TimePoint now, base::WallTime wall, const model::ServiceRoute& route,
            std::span<const Experience> news, EjectionChanges& changes);
  /// Before this nothing happens without news.
  [[nodiscard]] base::TimePoint due() const { return due_; }
  /// It was out when the agent started: on probation, with the default share until follow() knows better.
  EjectionChange restore(base::WallTime wall, const model::Frontend& frontend, const base::SocketAddress& endpoint);
  /// Forgets endpoints that are not in `service` (null: all) and, if it has no ejection, takes back what was done.
  void follow(const model::Frontend& frontend, const model::ServicePtr& service, EjectionChanges& changes);
  [[nodiscard]] bool empty() const { return endpoints_.empty(); }

 private:
  static constexpr std::size_t kBuckets = 5;

  struct Counts {
    std::uint32_t successes = 0;
    std::uint32_t failures = 0;
  };
  struct Endpoint {
    std::array<Counts, kBuckets> window{};
    std::int64_t bucket = 0;  ///< Number of the newest one, since the clock began.
    std::uint64_t in_row = 0;
    EjectionAspect aspect;
    base::TimePoint until{};                  ///< Of an ejection.
    base::TimePoint good_since{};             ///< Back since; for forgetting ejections.
    std::uint64_t opened = 0, successes = 0;  ///< On probation.
    bool withheld = false;
  };
  using Endpoints = std::map<base::SocketAddress, Endpoint>;
  struct Look {
    base::TimePoint now;
    base::WallTime wall;
    const model::ServiceRoute& route;
    const model::EjectionPolicy& policy;
    EjectionChanges& changes;
  };

  static void advance(Endpoint& endpoint, const Look& look);
  static Counts total(const Endpoint& endpoint);
  static void forget_ejections(Endpoint& endpoint, const Look& look);
  static void start_probation(Endpoint& endpoint, EjectionCause cause, std::string reason, const Look& look,
                              const base::SocketAddress& address);
  void note(const Experience& news, const Look& look);
  void note_on_probation(Endpoint& endpoint, const Experience& news, const Look& look);
  void eject(const base::SocketAddress& address, Endpoint& endpoint, EjectionCause cause, bool refuses,
             std::string reason, const Look& look);
  [[nodiscard]] bool may_eject(const base::SocketAddress& address, const Look& look) const;

  void end_ejections(const Look& look);

  Endpoints endpoints_;  ///< Those of which anything is known.
  base::TimePoint due_ = base::TimePoint::max();
};

/// All services.
class Outliers {
 public:
  EjectionChanges look(base::TimePoint now, base::WallTime wall, const model::RoutingTable& routing,
                       std::span<const ServiceExperience> news);
  /// Before the first look: an endpoint that, by the kernel tables, an earlier agent ejected.
  EjectionChange restore(base::WallTime wall, const model::Frontend& frontend, const base::SocketAddress& endpoint);

 private:
  std::unordered_map<model::Frontend, ServiceOutliers, model::FrontendHash> services_;
  std::optional<std::uint64_t> followed_;  ///< Generation of the routing table that was followed last.
};

}  // namespace mesh::health
