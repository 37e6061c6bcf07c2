// SPDX-License-Identifier: Apache-2.0
// How long a change that a registry tells takes until connect() goes by it.
//
//   discovery_bench --services FILE --changes FIFO
//       FILE: "ADDR:PORT" of one service per line. FIFO: lines "NUMBER open|closed NANOSECONDS" until it is closed:
//       from that time on (CLOCK_MONOTONIC) the bytes that say so were on their way to the agent. Run inside an
//       attached cgroup. Prints one JSON object.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdint>
#include <fstream>
#include <string>
#include <vector>

#include "tests/bench/effect.hpp"

namespace mesh::bench {
namespace {

int watch(const std::string& file, const std::string& fifo) {
  std::vector<base::SocketAddress> services;
  std::ifstream lines(file);
  for (std::string line; std::getline(lines, line);) {
    const auto address = base::SocketAddress::parse(line);
    if (!address) {
      fmt::print(stderr, "{}: {}\n", file, address.error().to_string());
      return 1;
    }
    services.push_back(*address);
  }
  const OpenPort open;
  Watcher watcher;
  unsigned changes = 0;
  base::TimePoint first{};
  base::TimePoint last{};
  std::size_t number = 0;
  std::string side;
  std::int64_t nanoseconds = 0;
  std::ifstream told(fifo);  // waits for who writes it
  while (told >> number >> side >> nanoseconds) {
    if (number >= services.size() || (side != "open" && side != "closed")) {
      fmt::print(stderr, "'{} {} {}' is no change of one of {} services\n", number, side, nanoseconds, services.size());
      return 1;
    }
    last = base::TimePoint(base::Duration(nanoseconds));
    if (changes++ == 0) first = last;
    watcher.add({services[number], side == "open" ? Side::kOpen : Side::kClosed, last});
  }
  watcher.finish();
  nlohmann::json out = watcher.report();
  out["changes"] = changes;
  if (changes > 1) out["rate"] = (changes - 1) / std::chrono::duration<double>(last - first).count();
  fmt::print("{}\n", out.dump());
  return watcher.lost() == 0 ? 0 : 1;
}

}  // namespace
}  // namespace mesh::bench

int main(int argc, char** argv) {
  std::string services;
  std::string changes;
  CLI::App app{"How long a change that a registry tells takes until connect() goes by it."};
  app.add_option("--services", services)->required();
  app.add_option("--changes", changes)->required();
  CLI11_PARSE(app, argc, argv);
  return mesh::bench::watch(services, changes);
}
