// SPDX-License-Identifier: Apache-2.0
// Runs the canary on the control loop: serves its listeners, asks the canary process for one cgroup after the other,
// every `interval`, and keeps the last report of each. A canary process that dies or hangs is replaced, and until the
// next report the cgroup's last one says when it is from.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.hpp"
#include "datapath/canary.hpp"
#include "io/loop.hpp"
#include "model/service.hpp"

namespace mesh::app {

inline constexpr std::uint16_t kCanaryPort = 4240;

class CanaryRunner {
 public:
  struct Options {
    std::string cgroup_root;
    base::Duration interval = std::chrono::seconds(2);
    std::optional<base::IpAddress> vip4;
    std::optional<base::IpAddress> vip6;
    /// While it says true nothing is checked: a paused mesh is expected to pass connects. May be empty.
    std::function<bool()> paused;
  };
  /// Called for each report, after it is stored.
  using Reported = std::function<void(const datapath::CanaryReport&)>;

  static base::Result<std::unique_ptr<CanaryRunner>> open(io::Loop& loop, Options options, Reported reported);
  ~CanaryRunner();

  /// What to merge, of kInternalSource: one service per listener, with the listener as its endpoint.
  [[nodiscard]] std::vector<model::ServicePtr> services() const;

  /// Starts checking these cgroups (paths below the mount); may be called again with others.
  void watch(std::vector<std::string> cgroups);
  /// Starts a round now instead of at the end of the interval.
  void check_now();

  [[nodiscard]] const std::map<std::string, datapath::CanaryReport>& reports() const { return reports_; }
  [[nodiscard]] bool checks_v6() const { return targets_.vip6.has_value(); }

 private:
  struct Served;
  CanaryRunner(io::Loop& loop, Options options, Reported reported, datapath::CanaryServer server);
  void on_interval(base::TimePoint now);
  void on_answer(std::int32_t result);
  void on_answer_late(base::TimePoint now);
  void ask_next();
  void store(datapath::CanaryReport report);

  io::Loop& loop_;
  const Options options_;
  const Reported reported_;
  datapath::CanaryServer server_;
  datapath::CanaryTargets targets_;
  std::vector<std::unique_ptr<Served>> served_;
  std::optional<datapath::CanaryChild> child_;
  std::vector<std::string> cgroups_;
  std::size_t next_ = 0;    ///< Of the round under way.
  std::string asked_;       ///< The cgroup asked about, while an answer is due.
  bool abandoned_ = false;  ///< The operation on the old child's socket has to complete first.
  std::map<std::string, datapath::CanaryReport> reports_;
  io::MemberOperation<CanaryRunner, &CanaryRunner::on_answer> answer_{*this};
  io::MemberTimer<CanaryRunner, &CanaryRunner::on_interval> interval_{*this};
  io::MemberTimer<CanaryRunner, &CanaryRunner::on_answer_late> late_{*this};
};

}  // namespace mesh::app
