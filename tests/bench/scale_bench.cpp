// SPDX-License-Identifier: Apache-2.0
// Many services in files, and how long a change in one file takes until connect() goes by it.
//
//   scale_bench generate --folder D --files F --services S --endpoints E
//       writes D/000.json ... with S services in all. The first service of each file is the measured one: of its
//       endpoints only one has a weight, so that connect() says at once which state is in force.
//   scale_bench change   --folder D ... --changes N --rate R
//       makes R changes a second, each in the measured service of the next file: the weight moves between an endpoint
//       that listens and one that refuses. Run inside an attached cgroup. Prints one JSON object with the latencies
//       from the end of rename(2) to the first connect() that goes by the change.
//
// Changes are made on a fixed schedule by one thread and watched by another (effect.hpp).
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <array>
#include <cstdio>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "base/address.hpp"
#include "base/clock.hpp"
#include "tests/bench/effect.hpp"

namespace mesh::bench {
namespace {

struct Options {
  std::string folder;
  unsigned files = 100;
  unsigned services = 10000;
  unsigned endpoints = 10;
  unsigned changes = 2000;
  unsigned rate = 100;
};

std::string vip_of(unsigned service) {
  return fmt::format("240.{}.{}.{}", 64 + (service >> 16), (service >> 8) & 255, service & 255);
}

base::SocketAddress address_of(unsigned service) { return {*base::IpAddress::parse(vip_of(service)), 80}; }

void append_service(std::string& out, const Options& options, unsigned service, bool measured, Side side) {
  // One in a hundred is Maglev and ten round robin: rebuilding what did not change would show.
  const char* balance = service % 100 == 1 ? "maglev" : service % 10 == 2 ? "round_robin" : "weighted_random";
  fmt::format_to(std::back_inserter(out), R"({{"name":"service-{}","address":"{}:80","balance":"{}","endpoints":[)",
                 service, vip_of(service), balance);
  for (unsigned i = 0; i < options.endpoints; ++i) {
    if (i != 0) out += ',';
    if (measured) {
      const bool chosen = (side == Side::kOpen && i == 0) || (side == Side::kClosed && i == 1);
      fmt::format_to(std::back_inserter(out), R"({{"address":"127.0.0.1:{}","weight":{}}})", kOpenPort + i,
                     chosen ? 1 : 0);
    } else {
      fmt::format_to(std::back_inserter(out), R"({{"address":"10.{}.{}.{}:{}"}})", (service >> 8) & 255, service & 255,
                     i + 1, 8080 + (service >> 16));
    }
  }
  out += "]}";
}

std::string content_of(const Options& options, unsigned file, Side side) {
  const unsigned per_file = options.services / options.files;
  std::string out = R"({"services":[)";
  for (unsigned i = 0; i < per_file; ++i) {
    if (i != 0) out += ",\n";
    append_service(out, options, file * per_file + i, i == 0, side);
  }
  return out += "]}\n";
}

std::string path_of(const Options& options, unsigned file) {
  return fmt::format("{}/{:04}.json", options.folder, file);
}

void write_plain(const std::string& path, const std::string& content) {
  std::ofstream out(path, std::ios::binary | std::ios::trunc);
  out << content;
}

void generate(const Options& options) {
  for (unsigned file = 0; file < options.files; ++file) {
    write_plain(path_of(options, file), content_of(options, file, Side::kOpen));
  }
}

int change(const Options& options) {
  const unsigned per_file = options.services / options.files;
  const OpenPort open;
  // Both texts of each file are made beforehand: making them isn't what is measured.
  std::vector<std::array<std::string, 2>> contents(options.files);
  for (unsigned file = 0; file < options.files; ++file) {
    contents[file] = {content_of(options, file, Side::kOpen), content_of(options, file, Side::kClosed)};
  }
  Watcher watcher;
  const base::TimePoint begin = base::steady_now();
  std::vector<Side> sides(options.files, Side::kOpen);
  for (unsigned i = 0; i < options.changes; ++i) {
    std::this_thread::sleep_until(begin + i * std::chrono::nanoseconds(std::chrono::seconds(1)) / options.rate);
    const unsigned file = i % options.files;
    sides[file] = sides[file] == Side::kOpen ? Side::kClosed : Side::kOpen;
    const std::string temporary = fmt::format("{}/.{:04}.tmp", options.folder, file);
    write_plain(temporary, contents[file][sides[file] == Side::kOpen ? 0 : 1]);
    if (rename(temporary.c_str(), path_of(options, file).c_str()) != 0) return 1;
    watcher.add({address_of(file * per_file), sides[file], base::steady_now()});
  }
  const double took_s = std::chrono::duration<double>(base::steady_now() - begin).count();
  watcher.finish();
  nlohmann::json out = watcher.report();
  out["changes"] = options.changes;
  out["rate"] = options.changes / took_s;
  fmt::print("{}\n", out.dump());
  return watcher.lost() == 0 ? 0 : 1;
}

}  // namespace
}  // namespace mesh::bench

int main(int argc, char** argv) {
  mesh::bench::Options options;
  CLI::App app{"Many services in files, and how fast a change takes effect."};
  app.require_subcommand(1);
  CLI::App* generate = app.add_subcommand("generate", "write the files");
  CLI::App* change = app.add_subcommand("change", "change them and measure");
  for (CLI::App* command : {generate, change}) {
    command->add_option("--folder", options.folder)->required();
    command->add_option("--files", options.files)->check(CLI::PositiveNumber);
    command->add_option("--services", options.services)->check(CLI::PositiveNumber);
    command->add_option("--endpoints", options.endpoints)->check(CLI::Range(2, 1000));
  }
  change->add_option("--changes", options.changes)->check(CLI::PositiveNumber);
  change->add_option("--rate", options.rate)->check(CLI::PositiveNumber);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  if (change->parsed()) return mesh::bench::change(options);
  mesh::bench::generate(options);
  return 0;
}
