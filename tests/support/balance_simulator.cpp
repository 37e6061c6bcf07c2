// SPDX-License-Identifier: Apache-2.0
#include "tests/support/balance_simulator.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <deque>
#include <queue>

#include "balance/weighted.hpp"
#include "base/error.hpp"
#include "base/random.hpp"
#include "mesh_load.h"

namespace mesh::support {
namespace {

using model::Algorithm;
using Does = SimulatedBackend::Does;

constexpr double kNsPerMs = 1e6;
constexpr double kRefusalMs = 0.05;                    // a round trip in a rack
constexpr double kIntervalMs = 100;                    // of the swing
constexpr std::uint64_t kStartNs = 3'600'000'000'000;  // a host that is up for an hour

struct Connection {
  double begin_ms;
  std::uint32_t node;
  std::uint32_t backend;
};

struct Event {
  double at_ms;
  std::uint64_t order;  ///< Ties are taken as they came, so that a run is the same everywhere.
  enum class Kind : std::uint8_t { kArrival, kDone, kFailed } kind;
  Connection connection;
  bool operator>(const Event& other) const { return at_ms != other.at_ms ? at_ms > other.at_ms : order > other.order; }
};

struct Server {
  unsigned busy = 0;
  std::deque<Connection> waiting;
  // Open connections, for the swing: their integral over the current interval, and what came of earlier ones.
  unsigned open = 0;
  double since_ms = 0;
  double area = 0;
  std::vector<double> means;
};

class Simulation {
 public:
  Simulation(const Scenario& scenario, Algorithm algorithm, std::uint64_t seed)
      : scenario_(scenario),
        algorithm_(algorithm),
        random_(seed),
        servers_(scenario.backends.size()),
        live_(scenario.nodes * scenario.backends.size(), mesh_backend_live{}) {
    std::vector<std::uint16_t> weights;
    for (const SimulatedBackend& backend : scenario.backends) weights.push_back(backend.weight);
    balance::build_weighted(weights, table_);
    result_.shares.assign(scenario.backends.size(), 0);
  }

  SimulationResult run() {
    if (scenario_.clients > 0) {
      for (unsigned i = 0; i < scenario_.clients; ++i) schedule(0, Event::Kind::kArrival, {0, i % scenario_.nodes, 0});
    } else {
      schedule(until_next(scenario_.arrivals_per_ms), Event::Kind::kArrival, {0, some_node(), 0});
    }
    double next_interval = kIntervalMs;
    while (!events_.empty() && events_.top().at_ms < scenario_.duration_ms) {
      const Event event = events_.top();
      events_.pop();
      for (; next_interval <= event.at_ms; next_interval += kIntervalMs) end_interval(next_interval);
      now_ms_ = event.at_ms;
      handle(event);
    }
    return finish();
  }

 private:
  [[nodiscard]] std::uint64_t now_ns() const { return kStartNs + static_cast<std::uint64_t>(now_ms_ * kNsPerMs); }
  double exponential(double mean) { return -mean * std::log(1 - random_.uniform()); }
  double until_next(double per_ms) { return now_ms_ + exponential(1 / per_ms); }
  std::uint32_t some_node() { return static_cast<std::uint32_t>(random_.below(scenario_.nodes)); }
  std::uint32_t random32() { return static_cast<std::uint32_t>(random_.next() >> 32); }
  mesh_backend_live& live(const Connection& one) { return live_[one.node * servers_.size() + one.backend]; }
  [[nodiscard]] bool counts() const { return now_ms_ >= scenario_.warm_up_ms; }

  void schedule(double at_ms, Event::Kind kind, const Connection& connection) {
    events_.push({at_ms, ++order_, kind, connection});
  }

  void handle(const Event& event) {
    switch (event.kind) {
      case Event::Kind::kArrival:
        connect(event.connection.node);
        if (scenario_.clients == 0) {
          schedule(until_next(scenario_.arrivals_per_ms), Event::Kind::kArrival, {0, some_node(), 0});
        }
        return;
      case Event::Kind::kDone:
        done(event.connection);
        return;
      case Event::Kind::kFailed:
        failed(event.connection);
        return;
    }
  }

  /// As mesh_draw() does it.
  std::uint32_t draw(std::uint32_t column) {
    const std::uint32_t threshold = table_.thresholds[column];
    const bool take_first = threshold == balance::kAlwaysPick || random32() < threshold;
    return take_first ? table_.picks[column] : table_.aliases[column];
  }

  /// As mesh_pick() does it.
  std::uint32_t pick(std::uint32_t node) {
    const std::uint32_t count = table_.entries();
    const auto column = static_cast<std::uint32_t>(random_.below(count));
    const std::uint32_t first = draw(column);
    if (algorithm_ == Algorithm::kWeightedRandom || count == 1) return first;
    const std::uint32_t second = draw(mesh_other_column(column, random32(), count));
    if (first == second) return first;
    mesh_load first_load{};
    mesh_load second_load{};
    mesh_load_of(&live({0, node, first}), scenario_.backends[first].weight, now_ns(), &first_load);
    mesh_load_of(&live({0, node, second}), scenario_.backends[second].weight, now_ns(), &second_load);
    return mesh_second_is_better(static_cast<std::uint8_t>(algorithm_), &first_load, &second_load) != 0 ? second
                                                                                                        : first;
  }

  void connect(std::uint32_t node) {
    const Connection connection{now_ms_, node, pick(node)};
    const SimulatedBackend& backend = scenario_.backends[connection.backend];
    ++live(connection).opened;
    change_open(connection.backend, 1);
    if (backend.does != Does::kServe && now_ms_ < backend.until_ms) {
      const double takes = backend.does == Does::kRefuse ? kRefusalMs : scenario_.connect_timeout_ms;
      schedule(now_ms_ + takes, Event::Kind::kFailed, connection);
      return;
    }
    live(connection).failures_in_row = 0;
    Server& server = servers_[connection.backend];
    if (server.busy < backend.workers) {
      ++server.busy;
      schedule(now_ms_ + exponential(backend.service_ms), Event::Kind::kDone, connection);
    } else {
      server.waiting.push_back(connection);
    }
  }

  void done(const Connection& connection) {
    mesh_backend_live& counters = live(connection);
    const double took_ms = now_ms_ - connection.begin_ms;
    const auto took_us = static_cast<std::uint64_t>(took_ms * 1000);
    if (mesh_latency_counts(took_us) != 0) counters.latency = mesh_latency_sample(counters.latency, took_us, now_ns());
    if (counts()) latencies_.push_back(took_ms);
    Server& server = servers_[connection.backend];
    if (server.waiting.empty()) {
      --server.busy;
    } else {
      schedule(now_ms_ + exponential(scenario_.backends[connection.backend].service_ms), Event::Kind::kDone,
               server.waiting.front());
      server.waiting.pop_front();
    }
    close(connection);
  }

  void failed(const Connection& connection) {
    mesh_backend_live& counters = live(connection);
    counters.latency = mesh_latency_failure(counters.latency, now_ns());
    ++counters.failures_in_row;
    counters.last_failure_ns = now_ns();
    if (counts()) ++result_.failed;
    close(connection);
  }

  void close(const Connection& connection) {
    ++live(connection).closed;
    change_open(connection.backend, -1);
    if (counts()) {
      ++result_.requests;
      ++result_.shares[connection.backend];
    }
    if (scenario_.clients > 0) schedule(now_ms_, Event::Kind::kArrival, connection);
  }

  void change_open(std::uint32_t backend, int by) {
    Server& server = servers_[backend];
    server.area += server.open * (now_ms_ - server.since_ms);
    server.since_ms = now_ms_;
    server.open += static_cast<unsigned>(by);
  }

  void end_interval(double at_ms) {
    for (Server& server : servers_) {
      server.area += server.open * (at_ms - server.since_ms);
      server.since_ms = at_ms;
      if (at_ms > scenario_.warm_up_ms) server.means.push_back(server.area / kIntervalMs);
      server.area = 0;
    }
  }

  SimulationResult finish() {
    for (const Server& server : servers_) {
      double mean = 0;
      double largest = 0;
      for (std::size_t i = 0; i < server.means.size(); ++i) {
        mean += server.means[i] / static_cast<double>(server.means.size());
        if (i > 0) largest = std::max(largest, std::abs(server.means[i] - server.means[i - 1]));
      }
      if (mean >= 1) result_.swing = std::max(result_.swing, largest / mean);
    }
    for (double& share : result_.shares) share /= static_cast<double>(std::max<std::uint64_t>(result_.requests, 1));
    std::ranges::sort(latencies_);
    const auto quantile = [&](double q) {
      return latencies_.empty() ? 0 : latencies_[static_cast<std::size_t>(q * static_cast<double>(latencies_.size()))];
    };
    result_.p50_ms = quantile(0.5);
    result_.p99_ms = quantile(0.99);
    return std::move(result_);
  }

  const Scenario& scenario_;
  const Algorithm algorithm_;
  base::Random random_;
  balance::Table table_;
  std::vector<Server> servers_;
  std::vector<mesh_backend_live> live_;  ///< By node, then backend.
  std::priority_queue<Event, std::vector<Event>, std::greater<>> events_;
  std::uint64_t order_ = 0;
  double now_ms_ = 0;
  std::vector<double> latencies_;
  SimulationResult result_;
};

std::vector<SimulatedBackend> alike(unsigned count, const SimulatedBackend& one) { return {count, one}; }

std::vector<Scenario> make_scenarios() {
  std::vector<Scenario> all;
  Scenario ten{.name = "one-slow", .what = "one of ten is 10x slower, 30 % load"};
  ten.backends = alike(10, {.service_ms = 10, .workers = 8});
  ten.backends[3].service_ms = 100;
  ten.arrivals_per_ms = 0.3 * 9 * 0.8;
  all.push_back(ten);

  ten.name = "one-slow-idle";
  ten.what = "one of ten is 10x slower, hardly any load";
  ten.arrivals_per_ms = 0.1;
  ten.duration_ms = 300'000;
  all.push_back(ten);

  Scenario four{.name = "four-slow", .what = "4 of 32 are 4x slower, 90 % load"};
  four.backends = alike(32, {.service_ms = 10, .workers = 4});
  for (const unsigned i : {3U, 11U, 19U, 27U}) four.backends[i].service_ms = 40;
  four.arrivals_per_ms = 0.9 * (28 * 0.4 + 4 * 0.1);
  all.push_back(four);
  four.name = "four-slow-nodes";
  four.what = "4 of 32 are 4x slower, 90 % load from 20 nodes";
  four.nodes = 20;
  all.push_back(four);

  Scenario alike_ones{.name = "alike", .what = "32 alike, 90 % load"};
  alike_ones.backends = alike(32, {.service_ms = 10, .workers = 4});
  alike_ones.arrivals_per_ms = 0.9 * 32 * 0.4;
  all.push_back(alike_ones);

  Scenario weights{.name = "weights",
                   .what = "five of weight 1, five of weight 3 with three times the workers, 80 % load"};
  weights.backends = alike(5, {.service_ms = 10, .workers = 4});
  for (int i = 0; i < 5; ++i) weights.backends.push_back({.service_ms = 10, .workers = 12, .weight = 3});
  weights.arrivals_per_ms = 0.8 * 5 * 1.6;
  all.push_back(weights);

  Scenario refusing{.name = "one-refuses", .what = "one of ten refuses at once"};
  refusing.backends = alike(10, {.service_ms = 10, .workers = 8});
  refusing.backends[3].does = Does::kRefuse;
  refusing.arrivals_per_ms = 1;
  all.push_back(refusing);
  refusing.name = "one-black-hole";
  refusing.what = "one of ten never answers; clients give up after 1 s";
  refusing.backends[3].does = Does::kBlackHole;
  all.push_back(refusing);

  refusing.name = "one-back";
  refusing.what = "one of ten refused for 10 s, a minute ago";
  refusing.backends[3].does = Does::kRefuse;
  refusing.backends[3].until_ms = 10'000;
  refusing.warm_up_ms = 70'000;
  refusing.duration_ms = 100'000;
  all.push_back(refusing);

  Scenario herd{.name = "clients", .what = "200 clients of one node that connect again at once, 10 backends"};
  herd.backends = alike(10, {.service_ms = 10, .workers = 8});
  herd.clients = 200;
  all.push_back(herd);
  herd.name = "clients-nodes";
  herd.what = "200 clients of 200 nodes that connect again at once, one backend of ten 4x slower";
  herd.nodes = 200;
  herd.backends[3].service_ms = 40;
  all.push_back(herd);
  return all;
}

}  // namespace

SimulationResult simulate(const Scenario& scenario, Algorithm algorithm, std::uint64_t seed) {
  return Simulation(scenario, algorithm, seed).run();
}

const std::vector<Scenario>& scenarios() {
  static const std::vector<Scenario> all = make_scenarios();
  return all;
}

const Scenario& scenario(const std::string& name) {
  const auto found = std::ranges::find(scenarios(), name, &Scenario::name);
  MESH_ASSERT(found != scenarios().end());
  return *found;
}

std::string simulation_report(std::uint64_t seed) {
  std::string text = fmt::format("seed {}\n", seed);
  for (const Scenario& one : scenarios()) {
    text += fmt::format("\n{}: {}\n  {:<18} {:>9} {:>10} {:>10} {:>8} {:>7} {:>7} {:>7}\n", one.name, one.what, "",
                        "requests", "p50 ms", "p99 ms", "failed %", "least %", "most %", "swing");
    for (const Algorithm algorithm : {Algorithm::kWeightedRandom, Algorithm::kLeastConnections, Algorithm::kLatency}) {
      const SimulationResult result = simulate(one, algorithm, seed);
      const auto [least, most] = std::ranges::minmax(result.shares);
      text += fmt::format("  {:<18} {:>9} {:>10.2f} {:>10.2f} {:>8.3f} {:>7.2f} {:>7.2f} {:>7.2f}\n",
                          model::to_string(algorithm), result.requests, result.p50_ms, result.p99_ms,
                          100 * result.failed_share(), 100 * least, 100 * most, result.swing);
    }
  }
  return text;
}

}  // namespace mesh::support
