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
// Changes are made on a fixed schedule by one thread and watched by another: a slow one doesn't delay the next, so slow
// ones aren't left out (coordinated omission). A change that isn't in force after a second is counted as lost.
#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <fstream>
#include <mutex>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "base/address.hpp"
#include "base/clock.hpp"
#include "base/fd.hpp"
#include "tests/bench/statistics.hpp"

namespace mesh::bench {
namespace {

constexpr int kOpenPort = 19001;  ///< Listened at by `change`; nothing listens at the ports after it.
constexpr auto kLost = std::chrono::seconds(1);

struct Options {
  std::string folder;
  unsigned files = 100;
  unsigned services = 10000;
  unsigned endpoints = 10;
  unsigned changes = 2000;
  unsigned rate = 100;
};

enum class Side : std::uint8_t { kOpen, kClosed };

std::string vip_of(unsigned service) {
  return fmt::format("240.{}.{}.{}", 64 + (service >> 16), (service >> 8) & 255, service & 255);
}

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

struct Change {
  unsigned file;
  Side side;
  base::TimePoint made;
};

/// Which side a service is on: kOpen accepts, kClosed refuses. Anything else is an error that ends the run.
Side probe(unsigned service) {
  sockaddr_storage storage{};
  const base::SocketAddress address{.ip = *base::IpAddress::parse(vip_of(service)), .port = 80};
  const socklen_t length = address.to_sockaddr(storage);
  const base::Fd fd(socket(storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  constexpr linger kReset{.l_onoff = 1, .l_linger = 0};
  setsockopt(fd.get(), SOL_SOCKET, SO_LINGER, &kReset, sizeof kReset);
  if (connect(fd.get(), reinterpret_cast<const sockaddr*>(&storage), length) == 0) return Side::kOpen;
  if (errno == ECONNREFUSED) return Side::kClosed;
  fmt::print(stderr, "scale_bench: connect to {}: errno {}: is this cgroup attached?\n", address.to_string(), errno);
  std::exit(1);
}

class Watcher {
 public:
  explicit Watcher(unsigned services_per_file) : services_per_file_(services_per_file) {}

  void add(Change change) {
    const std::lock_guard lock(mutex_);
    fresh_.push_back(change);
  }

  /// Until finish() and nothing is outstanding.
  void run() {
    std::vector<Change> outstanding;
    while (true) {
      const bool last = finished_.load();
      {
        const std::lock_guard lock(mutex_);
        outstanding.insert(outstanding.end(), fresh_.begin(), fresh_.end());
        fresh_.clear();
      }
      if (last && outstanding.empty()) return;
      if (outstanding.empty()) usleep(50);
      std::erase_if(outstanding, [this](const Change& change) { return settled(change); });
    }
  }

  void finish() { finished_ = true; }
  [[nodiscard]] const std::vector<double>& latencies_ms() const { return latencies_ms_; }
  [[nodiscard]] unsigned lost() const { return lost_; }

 private:
  bool settled(const Change& change) {
    const bool flipped = probe(change.file * services_per_file_) == change.side;
    const base::Duration age = base::steady_now() - change.made;
    if (flipped) {
      latencies_ms_.push_back(static_cast<double>(age.count()) / 1e6);
    } else if (age > kLost) {
      ++lost_;
    }
    return flipped || age > kLost;
  }

  unsigned services_per_file_;
  std::mutex mutex_;
  std::vector<Change> fresh_;
  std::atomic<bool> finished_ = false;
  std::vector<double> latencies_ms_;
  unsigned lost_ = 0;
};

base::Fd listen_open() {
  const base::SocketAddress address{.ip = *base::IpAddress::parse("127.0.0.1"), .port = kOpenPort};
  sockaddr_storage storage{};
  const socklen_t length = address.to_sockaddr(storage);
  base::Fd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const int one = 1;
  setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (bind(fd.get(), reinterpret_cast<const sockaddr*>(&storage), length) != 0 || listen(fd.get(), 4096) != 0) {
    fd.reset();
  }
  return fd;
}

std::vector<std::string> histogram(const std::vector<double>& values) {
  constexpr std::array kBounds{0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0, 50.0, 100.0, 1000.0};
  std::vector<std::size_t> counts(kBounds.size());
  for (const double value : values) {
    const auto bound = std::ranges::lower_bound(kBounds, value);
    ++counts[std::min<std::size_t>(kBounds.size() - 1, static_cast<std::size_t>(bound - kBounds.begin()))];
  }
  std::vector<std::string> lines;
  for (std::size_t i = 0; i < counts.size(); ++i) {
    const std::size_t width = values.empty() ? 0 : (counts[i] * 50 + values.size() - 1) / values.size();
    lines.push_back(fmt::format("<= {:7} ms {:6} {}", kBounds[i], counts[i], std::string(width, '#')));
  }
  return lines;
}

int change(const Options& options) {
  const unsigned per_file = options.services / options.files;
  const base::Fd listener = listen_open();
  if (!listener.valid()) {
    fmt::print(stderr, "scale_bench: listen at 127.0.0.1:{}: errno {}\n", kOpenPort, errno);
    return 1;
  }
  std::atomic<bool> stop = false;
  std::thread acceptor([&] {
    while (!stop) {
      const base::Fd accepted(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
    }
  });
  // Both texts of each file are made beforehand: making them isn't what is measured.
  std::vector<std::array<std::string, 2>> contents(options.files);
  for (unsigned file = 0; file < options.files; ++file) {
    contents[file] = {content_of(options, file, Side::kOpen), content_of(options, file, Side::kClosed)};
  }
  Watcher watcher(per_file);
  std::thread watching([&] { watcher.run(); });
  const base::TimePoint begin = base::steady_now();
  std::vector<Side> sides(options.files, Side::kOpen);
  for (unsigned i = 0; i < options.changes; ++i) {
    std::this_thread::sleep_until(begin + i * std::chrono::nanoseconds(std::chrono::seconds(1)) / options.rate);
    const unsigned file = i % options.files;
    sides[file] = sides[file] == Side::kOpen ? Side::kClosed : Side::kOpen;
    const std::string temporary = fmt::format("{}/.{:04}.tmp", options.folder, file);
    write_plain(temporary, contents[file][sides[file] == Side::kOpen ? 0 : 1]);
    if (rename(temporary.c_str(), path_of(options, file).c_str()) != 0) return 1;
    watcher.add({.file = file, .side = sides[file], .made = base::steady_now()});
  }
  const double took_s = std::chrono::duration<double>(base::steady_now() - begin).count();
  watcher.finish();
  watching.join();
  stop = true;
  shutdown(listener.get(), SHUT_RDWR);
  acceptor.join();
  const std::vector<double>& latencies = watcher.latencies_ms();
  nlohmann::json out = {{"changes", options.changes},
                        {"rate", options.changes / took_s},
                        {"lost", watcher.lost()},
                        {"histogram", histogram(latencies)}};
  if (!latencies.empty()) {
    out["median_ms"] = quantile(latencies, 0.5);
    out["p99_ms"] = quantile(latencies, 0.99);
    out["max_ms"] = quantile(latencies, 1);
  }
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
