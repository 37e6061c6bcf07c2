// SPDX-License-Identifier: Apache-2.0
// `meshctl top` and `stat`: what services and backends are doing, from the kernel's counters.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <ostream>
#include <thread>

#include "cli/context.hpp"
#include "cli/duration.hpp"
#include "cli/traffic_view.hpp"

namespace mesh::cli {
namespace {

using api::TrafficCounts;

constexpr const char* kWhatSrttIs =
    "P50, P95, P99: connect latency, the time until a connection is established. SRTT: the network's round trip. Both "
    "are\n"
    "blind to a slow application behind a fast network; `balance: latency` goes by how long connections take as a "
    "whole.\n"
    "Of a service every connection counts, of a backend those that have ended and were sampled (see `flows`). "
    "Quantiles\n"
    "come from buckets of powers of two: read them as \"about\".\n";

std::uint64_t more(std::uint64_t before, std::uint64_t after) { return after >= before ? after - before : after; }

TrafficCounts more(const TrafficCounts& before, const TrafficCounts& after) {
  TrafficCounts counts;
  counts.opened = more(before.opened, after.opened);
  counts.closed = more(before.closed, after.closed);
  counts.established = more(before.established, after.established);
  counts.failed = more(before.failed, after.failed);
  counts.cut = more(before.cut, after.cut);
  counts.bytes_out = more(before.bytes_out, after.bytes_out);
  counts.bytes_in = more(before.bytes_in, after.bytes_in);
  counts.retransmits = more(before.retransmits, after.retransmits);
  counts.srtt_us = more(before.srtt_us, after.srtt_us);
  counts.srtt_count = more(before.srtt_count, after.srtt_count);
  counts.latency = after.latency;
  for (std::size_t i = 0; i < counts.latency.size() && i < before.latency.size(); ++i) {
    counts.latency[i] = more(before.latency[i], after.latency[i]);
  }
  return counts;
}

std::vector<Cell> cells(const std::string& name, const TrafficCounts& counts, const TrafficCounts& total,
                        std::uint64_t refused, double seconds) {
  const auto rate = [&](std::uint64_t value) {
    return seconds > 0 ? fmt::format("{:.1f}", static_cast<double>(value) / seconds) : std::to_string(value);
  };
  const std::uint64_t failed = counts.failed + refused;
  std::optional<std::uint32_t> srtt;
  if (counts.srtt_count > 0) srtt = static_cast<std::uint32_t>(counts.srtt_us / counts.srtt_count);
  return {name,
          rate(counts.opened),
          std::to_string(total.opened - std::min(total.opened, total.closed)),
          Cell(rate(failed), failed > 0 ? Colour::kRed : Colour::kNone),
          Cell(rate(counts.cut), counts.cut > 0 ? Colour::kYellow : Colour::kNone),
          format_us(quantile_us(counts.latency, 0.5)),
          format_us(quantile_us(counts.latency, 0.95)),
          format_us(quantile_us(counts.latency, 0.99)),
          format_us(srtt),
          format_bytes(counts.bytes_out),
          format_bytes(counts.bytes_in),
          std::to_string(counts.retransmits)};
}

template <typename T, typename Same>
const T* find(const std::vector<T>& list, const T& wanted, Same same) {
  const auto found = std::ranges::find_if(list, [&](const T& one) { return same(one, wanted); });
  return found == list.end() ? nullptr : &*found;
}

bool same_service(const api::ServiceTraffic& a, const api::ServiceTraffic& b) { return a.frontend == b.frontend; }
bool same_backend(const api::BackendTraffic& a, const api::BackendTraffic& b) {
  return a.backend_id == b.backend_id && a.generation == b.generation;
}

base::Result<api::Json> fetch_traffic(const Context& context, const api::TrafficRequest& request) {
  return fetch(context,
               make_target("/v1/traffic", {{"service", request.service}, {"limit", std::to_string(request.limit)}}));
}

void print(Context& context, const api::TrafficList& counts, const api::TrafficList& totals, double seconds) {
  if (context.machine_output()) {
    api::Json document = api::to_document(counts);
    document["seconds"] = seconds;
    context.print_document(document);
    return;
  }
  context.out << traffic_text(counts, totals, seconds,
                              {context.style(), context.output == Output::kWide, base::wall_now()});
}

/// Asks, waits, asks again, prints the difference; `times` 0: until Ctrl-C.
base::Result<ExitCode> over_intervals(Context& context, const api::TrafficRequest& request, double seconds,
                                      unsigned times) {
  const api::Json first = MESH_TRY(fetch_traffic(context, request));
  auto before = MESH_TRY(api::from_document<api::TrafficList>(first));
  for (unsigned done = 0; times == 0 || done < times; ++done) {
    std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
    const api::Json document = MESH_TRY(fetch_traffic(context, request));
    auto after = MESH_TRY(api::from_document<api::TrafficList>(document));
    if (times != 1 && context.terminal && !context.machine_output()) context.out << "\033[H\033[2J";
    print(context, difference(before, after), after, after.at_s - before.at_s);
    context.out.flush();
    if (!context.out) break;
    before = std::move(after);
  }
  return ExitCode::kOk;
}

void add_request_options(CLI::App& command, api::TrafficRequest& request) {
  command.add_option("SERVICE", request.service, "NAME, NAME:PORT or ADDR:PORT; all without it");
  command.add_option("--limit", request.limit, "the services with the most connections")
      ->check(CLI::Range(std::uint32_t{1}, api::kTrafficLimitMax))
      ->capture_default_str();
}

}  // namespace

std::optional<std::uint32_t> quantile_us(const std::vector<std::uint64_t>& buckets, double quantile) {
  std::uint64_t total = 0;
  for (const std::uint64_t count : buckets) total += count;
  if (total == 0) return std::nullopt;
  const double rank = quantile * static_cast<double>(total);
  double below = 0;
  for (std::size_t i = 0; i < buckets.size(); ++i) {
    const auto count = static_cast<double>(buckets[i]);
    if (count == 0 || below + count < rank) {
      below += count;
      continue;
    }
    const double from = i == 0 ? 0 : std::ldexp(1.0, static_cast<int>(i));
    const double to = std::ldexp(1.0, static_cast<int>(i) + 1);
    const double us = from + (to - from) * std::max(0.0, rank - below) / count;
    return static_cast<std::uint32_t>(std::min(us, double{std::numeric_limits<std::uint32_t>::max()}));
  }
  return std::nullopt;
}

api::TrafficList difference(const api::TrafficList& before, const api::TrafficList& after) {
  api::TrafficList list = after;
  for (api::ServiceTraffic& service : list.items) {
    const auto* was = find(before.items, service, same_service);
    if (was == nullptr) continue;
    service.refused = more(was->refused, service.refused);
    service.counts = more(was->counts, service.counts);
    for (api::BackendTraffic& backend : service.backends) {
      if (const auto* then = find(was->backends, backend, same_backend)) {
        backend.counts = more(then->counts, backend.counts);
      }
    }
  }
  return list;
}

std::string traffic_text(const api::TrafficList& counts, const api::TrafficList& totals, double seconds,
                         const ViewOptions& options) {
  const std::string per = seconds > 0 ? "/S" : "";
  Table table({"SERVICE", "CONNECTS" + per, "OPEN", "FAILED" + per, "CUT" + per, "P50", "P95", "P99", "SRTT", "OUT",
               "IN", "RETR"});
  for (const api::ServiceTraffic& service : counts.items) {
    const auto* total = find(totals.items, service, same_service);
    if (total == nullptr) continue;
    const std::string name = service.feedback ? service.service : service.service + " (feedback off)";
    table.add(cells(options.wide ? name + ' ' + service.frontend : name, service.counts, total->counts, service.refused,
                    seconds));
    for (const api::BackendTraffic& backend : service.backends) {
      const auto* all = find(total->backends, backend, same_backend);
      if (all == nullptr || all->counts.opened == 0) continue;
      table.add(cells("  " + backend.address, backend.counts, all->counts, 0, seconds));
    }
  }
  std::string text = table.render(options.style);
  if (counts.left_out > 0) text += fmt::format("... and {} more services: --limit, or name one\n", counts.left_out);
  return text;
}

void add_top(CLI::App& app, Context& context) {
  auto* command = app.add_subcommand("top", "rates, open connections, failures and latencies, live");
  auto request = std::make_shared<api::TrafficRequest>();
  auto count = std::make_shared<unsigned>(0);
  add_request_options(*command, *request);
  command->add_option("-n,--count", *count, "end after that many prints; 0: at Ctrl-C")->capture_default_str();
  command->footer(std::string(kWhatSrttIs) +
                  "Examples:\n  meshctl top\n  meshctl top orders --interval 5\n  meshctl top -n 1 -o json");
  command->callback([&context, request, count] {
    context.run = [&context, request, count] {
      return over_intervals(context, *request, context.watch_interval_s, *count);
    };
  });
}

void add_stat(CLI::App& app, Context& context) {
  auto* command = app.add_subcommand("stat", "the same as top, once: all since the beginning, or over a while");
  auto request = std::make_shared<api::TrafficRequest>();
  auto over = std::make_shared<std::string>();
  add_request_options(*command, *request);
  command->add_option("--over", *over, "watch for so long (10s, 1m) and print what came; else all that was counted");
  command->footer(std::string(kWhatSrttIs) + "Examples:\n  meshctl stat orders\n  meshctl stat --over 10s -o json");
  command->callback([&context, request, over] {
    context.run = [&context, request, over]() -> base::Result<ExitCode> {
      if (!over->empty()) {
        return over_intervals(context, *request, static_cast<double>(MESH_TRY(parse_duration_s(*over))), 1);
      }
      const api::Json document = MESH_TRY(fetch_traffic(context, *request));
      const auto all = MESH_TRY(api::from_document<api::TrafficList>(document));
      print(context, all, all, 0);
      return ExitCode::kOk;
    };
  });
}

}  // namespace mesh::cli
