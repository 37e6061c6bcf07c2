// SPDX-License-Identifier: Apache-2.0
// Compares ways to reach a backend by short alternating blocks and paired ratios.
//
// Absolute times on a shared machine wander by tens of percent within seconds; two blocks a few milliseconds apart do
// not. So every round runs one block of each target, in a new random order, and a target's figure is the median over
// the rounds of its block divided by its baseline's block of the same round. Two targets that are the same thing (the
// control) say how far such a ratio can be off: where the control isn't 1 within `--control-spread`, nothing else is
// worth reading, and the answer is "inconclusive".
//
// Prints one JSON object. Exit code 0 when every block ran, 1 when something failed, 2 for wrong arguments.
#include <sys/resource.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/random.hpp"
#include "tests/bench/server.hpp"
#include "tests/bench/statistics.hpp"
#include "tests/bench/target.hpp"

namespace mesh::bench {
namespace {

using base::Result;

constexpr std::size_t kDiscardedRounds = 3;  ///< The first ones warm neighbour tables, port tables and the JIT's code.
constexpr std::uint32_t kMaxBlock = 100;     ///< Longer blocks of connects let the machine drift within a round.

struct Options {
  std::string mode = "connect";
  std::vector<std::string> targets;
  std::vector<std::string> servers;
  std::string control = "control";
  double control_spread = 0.02;
  std::size_t rounds = 300;
  std::uint32_t block = kMaxBlock;
  std::uint64_t seed = 1;
  int client_cpu = 0;
  int server_cpu = 1;
};

struct Series {
  Target target;
  std::size_t baseline = 0;
  std::vector<double> ns;  ///< Per repetition, one value a round.
  std::uint64_t failed = 0;
  int last_errno = 0;
};

Result<std::vector<Series>> start_targets(const Options& options, Mode mode) {
  std::vector<Series> series;
  for (const std::string& text : options.targets) {
    const TargetSpec spec = MESH_TRY(TargetSpec::parse(text));
    series.push_back({.target = MESH_TRY(Target::start(spec, mode, options.client_cpu)), .ns = {}});
  }
  for (std::size_t i = 0; i < series.size(); ++i) {
    const std::string& wanted = series[i].target.spec().baseline;
    const auto found = std::ranges::find(series, wanted, [](const Series& s) { return s.target.spec().name; });
    if (!wanted.empty() && found == series.end()) {
      return base::fail(base::ErrorKind::kInvalid, "baseline '" + wanted + "': no such target");
    }
    series[i].baseline = wanted.empty() ? i : static_cast<std::size_t>(found - series.begin());
  }
  return series;
}

Result<void> run_rounds(const Options& options, const std::vector<Server>& servers, std::vector<Series>& series) {
  base::Random random(options.seed);
  std::vector<std::size_t> order(series.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  for (std::size_t round = 0; round < options.rounds + kDiscardedRounds; ++round) {
    for (std::size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[random.below(i)]);
    for (const std::size_t index : order) {
      Series& one = series[index];
      const Block block = MESH_TRY(one.target.run(options.block));
      for (const Server& server : servers) server.drain();
      if (const unsigned settle_ms = one.target.spec().settle_ms) usleep(settle_ms * 1000);
      one.failed += block.failed;
      if (block.failed != 0) one.last_errno = block.last_errno;
      if (round >= kDiscardedRounds) {
        one.ns.push_back(static_cast<double>(block.elapsed_ns) / static_cast<double>(block.done));
      }
    }
  }
  return {};
}

std::vector<double> ratios_of(const Series& one, const Series& baseline) {
  std::vector<double> ratios(one.ns.size());
  for (std::size_t i = 0; i < ratios.size(); ++i) ratios[i] = one.ns[i] / baseline.ns[i];
  return ratios;
}

/// How far the medians of fifths of the run lie apart: drift that one interval over everything would hide.
double spread_over_time(const std::vector<double>& ratios) {
  constexpr std::size_t kParts = 5;
  if (ratios.size() < kParts) return 0;
  double low = 1e9;
  double high = 0;
  const std::size_t size = ratios.size() / kParts;
  for (std::size_t part = 0; part < kParts; ++part) {
    const auto begin = ratios.begin() + static_cast<std::ptrdiff_t>(part * size);
    const double median = median_interval({begin, begin + static_cast<std::ptrdiff_t>(size)}).median;
    low = std::min(low, median);
    high = std::max(high, median);
  }
  return high - low;
}

nlohmann::json report(const Options& options, const std::vector<Series>& series) {
  nlohmann::json out = {{"mode", options.mode},
                        {"rounds", options.rounds},
                        {"block", options.block},
                        {"seed", options.seed},
                        {"targets", nlohmann::json::array()}};
  bool has_control = false;
  bool conclusive = true;
  for (const Series& one : series) {
    const std::string& name = one.target.spec().name;
    const std::vector<double> ratios = ratios_of(one, series[one.baseline]);
    const Interval ratio = median_interval(ratios);
    const double drift = spread_over_time(ratios);
    if (name == options.control) {
      has_control = true;
      conclusive = std::max(ratio.high - 1, 1 - ratio.low) <= options.control_spread;
    }
    out["targets"].push_back({{"name", name},
                              {"baseline", series[one.baseline].target.spec().name},
                              {"median_ns", median_interval(one.ns).median},
                              {"ratio", ratio.median},
                              {"ratio_low", ratio.low},
                              {"ratio_high", ratio.high},
                              {"drift", drift},
                              {"failed", one.failed},
                              {"last_errno", one.last_errno}});
  }
  out["conclusive"] = has_control && conclusive;
  return out;
}

int run(const Options& options) {
  const auto finish = [](const base::Error& error) {
    std::fprintf(stderr, "connect_bench: %s\n", error.to_string().c_str());
    return 1;
  };
  const Result<Mode> mode = mode_from(options.mode);
  if (!mode) return finish(mode.error());
  std::vector<Server> servers;
  for (const std::string& text : options.servers) {
    const Result<ServerSpec> spec = ServerSpec::parse(text);
    if (!spec) return finish(spec.error());
    Result<Server> server = Server::start(*spec, *mode, options.server_cpu, options.block * kBulkWriteBytes);
    if (!server) return finish(server.error());
    servers.push_back(std::move(*server));
  }
  Result<std::vector<Series>> series = start_targets(options, *mode);
  if (!series) return finish(series.error());
  if (const Result<void> ran = run_rounds(options, servers, *series); !ran) return finish(ran.error());
  std::printf("%s\n", report(options, *series).dump().c_str());
  return std::ranges::any_of(*series, [](const Series& one) { return one.failed != 0; }) ? 1 : 0;
}

}  // namespace
}  // namespace mesh::bench

int main(int argc, char** argv) {
  mesh::bench::Options options;
  CLI::App app{"Compares ways to connect by interleaved blocks and paired ratios."};
  app.add_option("--mode", options.mode, "bare, connect, exchange, request or bulk");
  app.add_option("--target", options.targets, "name=N,to=A:P+...,netns=,cgroup=,baseline=,getpeername=,settle_ms=")
      ->required();
  app.add_option("--server", options.servers, "at=A:P+...,netns=");
  app.add_option("--rounds", options.rounds, "rounds that count")->check(CLI::Range(30, 1000000));
  app.add_option("--block", options.block, "repetitions per block")->check(CLI::Range(1, 100));
  app.add_option("--control", options.control, "the target that is the same as its baseline");
  app.add_option("--control-spread", options.control_spread, "how far its interval may be off 1");
  app.add_option("--seed", options.seed, "of the order within a round");
  app.add_option("--client-cpu", options.client_cpu, "-1: not pinned");
  app.add_option("--server-cpu", options.server_cpu, "-1: not pinned");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  return mesh::bench::run(options);
}
