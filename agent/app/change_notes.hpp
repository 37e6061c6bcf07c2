// SPDX-License-Identifier: Apache-2.0
// What changed from one look to the next, as events for the journal. Pure.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "api/history.hpp"
#include "base/clock.hpp"
#include "model/routing.hpp"

namespace mesh::app {

/// "orders 240.64.0.10:80/tcp", as events name a service.
std::string service_label(const model::Service& service);
/// That of the service which has the frontend; the address alone where `table` has none.
std::string service_label(const model::RoutingTablePtr& table, const model::Frontend& frontend);

/// Services and endpoints that came or went, verdicts of probes and panic that changed. A look at unchanged routes is
/// one comparison of pointers each.
class RouteNotes {
 public:
  static constexpr std::size_t kEventsMax = 1000;  ///< Of one look; the last event says how many more there were.

  /// `ignored`: the source whose services are not noted. The first table is one event.
  explicit RouteNotes(std::string_view ignored) : ignored_(ignored) {}
  [[nodiscard]] std::vector<api::HistoryEvent> look(const model::RoutingTablePtr& table);

 private:
  void compare(const model::ServiceRoute& before, const model::ServiceRoute& after);
  void add(std::string_view kind, const model::Service& service, std::string endpoint, std::string text);

  std::string ignored_;
  model::RoutingTablePtr last_;
  std::vector<api::HistoryEvent> events_;
  std::size_t more_ = 0;
};

/// Pauses that ended by themselves: who pauses and resumes notes that itself.
class PauseNotes {
 public:
  /// By label, empty for the whole mesh: when it ends (CLOCK_MONOTONIC). Those that are over may be in it.
  using Pauses = std::map<std::string, std::uint64_t>;
  [[nodiscard]] std::vector<api::HistoryEvent> look(const Pauses& pauses, base::TimePoint now);

 private:
  Pauses running_;
};

/// Connects that the kernel refused, per service: said at once, then at most once in kWindow with the number.
class RefusalNotes {
 public:
  static constexpr std::chrono::minutes kWindow{1};
  struct Count {
    std::uint32_t service_id = 0;
    std::uint64_t refused = 0;     ///< Since the tables were made, whatever the reason.
    std::uint64_t no_backend = 0;  ///< A part of it.
  };
  using Label = std::function<std::string(std::uint32_t service_id)>;

  /// What was refused before the first look is not said. Counters that went back are those of another service.
  [[nodiscard]] std::vector<api::HistoryEvent> look(const std::vector<Count>& counts, const Label& label,
                                                    base::TimePoint now);

 private:
  struct Seen {
    std::uint64_t refused = 0;
    std::uint64_t no_backend = 0;
    base::TimePoint next{};
  };
  bool looked_ = false;
  std::unordered_map<std::uint32_t, Seen> seen_;
};

}  // namespace mesh::app
