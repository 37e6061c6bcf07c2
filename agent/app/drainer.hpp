// SPDX-License-Identifier: Apache-2.0
// Ends connections that have to end, on a thread that may block: looks at the owner records when routes or orders
// changed and when something is due (health/drain.hpp decides), resets what is due in one pass (datapath/kill.hpp), and
// keeps the orders of operators.
#pragma once

#include <array>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <unordered_set>
#include <vector>

#include "api/drain.hpp"
#include "api/relay.hpp"
#include "app/drain_orders.hpp"
#include "app/reconciler.hpp"
#include "base/clock.hpp"
#include "datapath/loader.hpp"
#include "health/drain.hpp"
#include "health/standing_board.hpp"
#include "observe/journal.hpp"

namespace mesh::app {

class Drainer {
 public:
  struct Options {
    std::string state_dir;
    /// Between two looks, however often routes change. A look reads all owner records: a millisecond per 100,000 slots.
    base::Duration pace = std::chrono::milliseconds(500);
  };
  struct Counts {
    std::array<std::uint64_t, health::kDrainReasons> reset{};  ///< Connections, by health::DrainReason.
    std::uint64_t failed = 0;                                  ///< Attempts at a socket that could not be reset.
    std::uint64_t passes = 0;
    std::uint64_t unreachable = 0;  ///< Connections of the last pass that are out of reach.
    std::uint64_t leaving = 0;      ///< Endpoints.
  };

  /// The relay's connections, which the kernel takes for its own.
  struct Relay {
    std::function<std::vector<health::RelayedConnections>()> connections;
    std::function<void(api::RelayLeave)> leave;
  };

  /// Reads the orders that were saved. The others outlive the drainer.
  Drainer(Options options, Relay relay, const datapath::Datapath& datapath, const Reconciler& reconciler,
          observe::Journal& journal);
  ~Drainer();
  void start();
  void stop();  ///< After the pass that is under way.

  // From any thread.
  void routes_changed();
  base::Result<api::DrainList> order(const api::DrainRequest& request);
  [[nodiscard]] api::DrainList list() const;
  [[nodiscard]] Counts counts() const;
  /// What the orders say about endpoints, for a reconciler that starts.
  [[nodiscard]] model::StandingChanges standing() const;

  /// On the watcher's thread: the orders that came or went since the last call.
  void put_on_board(health::StandingBoard& board);

  static std::string path_in(const std::string& state_dir);  ///< "<state_dir>/drains.json"

 private:
  void run();
  void look(const health::DrainOrders& orders, const ReconciledPtr& reconciled);
  void reset(const health::DrainPlanner::Look& look);
  void leave_relayed(const std::vector<health::DrainPlanner::RelayedDue>& due);
  void note_reset(const health::EndpointKey& key, health::DrainReason reason, std::uint64_t count);
  void tell(const std::vector<health::LeavingEndpoint>& leaving);
  void save(const health::DrainOrders& orders);
  void note(const model::Frontend& frontend, const std::string& service, const std::string& endpoint, std::string text,
            std::uint64_t count = 1, base::Duration window = {});

  const Options options_;
  const Relay relay_;
  const datapath::Datapath& datapath_;
  const Reconciler& reconciler_;
  observe::Journal& journal_;

  mutable std::mutex mutex_;  ///< Guards what follows.
  std::condition_variable wake_;
  bool stopping_ = false;
  bool routes_changed_ = false;
  bool orders_changed_ = false;
  health::DrainOrders orders_;
  std::vector<health::LeavingEndpoint> leaving_;
  std::vector<api::UnreachableNamespace> unreachable_;
  std::string error_;
  Counts counts_;

  health::DrainOrders on_board_;  ///< The watcher's own.

  // The thread's own.
  std::optional<datapath::Killer> killer_;
  health::DrainPlanner planner_;
  std::map<health::EndpointKey, health::LeavingEndpoint> told_;
  std::unordered_set<std::uint64_t> told_unreachable_;  // netns cookies
  std::string save_error_;
  std::string pass_error_;
  base::TimePoint next_{};
  std::thread thread_;
};

}  // namespace mesh::app
