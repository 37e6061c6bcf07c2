// SPDX-License-Identifier: Apache-2.0
// Where those who have something to say about an endpoint (ejection, drains, slow start) say it, each its own aspect,
// and where it becomes one standing per service. Pure; of one thread.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <unordered_map>
#include <unordered_set>

#include "model/standing.hpp"

namespace mesh::health {

struct EjectionAspect {
  model::Ejection state = model::Ejection::kNone;
  bool refuses = false;
  unsigned ejections = 0;
  unsigned share_percent = 100;  ///< On probation.
  base::WallTime since{};
  base::WallTime until{};  ///< Of an ejection; zero: none.
  std::string reason;
  bool operator==(const EjectionAspect&) const = default;
};

struct DrainAspect {
  base::WallTime since{};
  std::string reason;  ///< Who asked for it.
  bool operator==(const DrainAspect&) const = default;
};

class StandingBoard {
 public:
  /// kNone takes what was said away.
  void set_ejection(const model::Frontend& frontend, const base::SocketAddress& endpoint, EjectionAspect ejection);
  void set_drain(const model::Frontend& frontend, const base::SocketAddress& endpoint,
                 std::optional<DrainAspect> drain);
  /// 1 to 100, of its weight; 100: it has started.
  void set_start(const model::Frontend& frontend, const base::SocketAddress& endpoint, unsigned share_percent);

  /// The services of which something else is to be said than at the last call. Of the aspects, a drain gives reason and
  /// time, else the ejection; the share is the lower one.
  model::StandingChanges take_changes();

 private:
  struct Aspects {
    EjectionAspect ejection;
    std::optional<DrainAspect> drain;
    unsigned start_percent = 100;
    bool operator==(const Aspects&) const = default;
  };
  template <typename T>
  void set(const model::Frontend& frontend, const base::SocketAddress& endpoint, T Aspects::* aspect, T value);
  static model::EndpointStanding combine(const base::SocketAddress& endpoint, const Aspects& aspects);

  using Endpoints = std::map<base::SocketAddress, Aspects>;
  std::unordered_map<model::Frontend, Endpoints, model::FrontendHash> services_;
  std::unordered_set<model::Frontend, model::FrontendHash> changed_;
};

}  // namespace mesh::health
