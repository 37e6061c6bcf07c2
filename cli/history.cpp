// SPDX-License-Identifier: Apache-2.0
// `meshctl history`: what happened on this node, from the journal on disk.
#include <fmt/format.h>

#include <ostream>

#include "cli/context.hpp"
#include "cli/duration.hpp"
#include "cli/views.hpp"

namespace mesh::cli {
namespace {

Colour colour_of(const api::HistoryEvent& event) {
  if (event.kind == api::history::kRefused || event.kind == api::history::kPlanFailed) return Colour::kRed;
  const bool trouble = event.kind == api::history::kEjection || event.kind == api::history::kPanic;
  return trouble || event.text.find("-> down") != std::string::npos ? Colour::kYellow : Colour::kNone;
}

}  // namespace

std::string history_text(const api::HistoryList& list, const ViewOptions& options) {
  Table table({"TIME", "EVENT", "SERVICE", "ENDPOINT", "WHAT"});
  for (const api::HistoryEvent& event : list.items) {
    table.add(
        {format_time(event.time, options.now), Cell(event.kind, colour_of(event)),
         event.service.empty() ? "-" : event.service, event.endpoint.empty() ? "-" : event.endpoint,
         printable(event.text) +
             (event.count > 1 && event.kind != api::history::kRefused ? fmt::format(" (x{})", event.count) : "")});
  }
  return table.render(options.style);
}

void add_history(CLI::App& app, Context& context) {
  auto* command = app.add_subcommand("history", "what happened: endpoints, probes, ejections, drains, plans, refusals");
  auto request = std::make_shared<api::HistoryRequest>();
  auto since = std::make_shared<std::string>("1h");
  command->add_option("SERVICE", request->service, "NAME, NAME:PORT or ADDR:PORT; all without it");
  command->add_option("--since", *since, "how far back: 10m, 1h, 2d")->capture_default_str();
  command->add_option("--limit", request->limit, "the newest that many events")
      ->check(CLI::Range(std::uint32_t{1}, api::kHistoryLimitMax))
      ->capture_default_str();
  command->footer(
      "Examples:\n  meshctl history orders --since 15m\n  meshctl history --since 2d -o json | jq '.items[] | "
      "select(.kind == \"ejection\")'");
  command->callback([&context, request, since] {
    context.watchable = true;
    context.run = [&context, request, since]() -> base::Result<ExitCode> {
      const std::uint64_t seconds = MESH_TRY(parse_duration_s(*since));
      const api::Json document =
          MESH_TRY(fetch(context, make_target("/v1/history", {{"service", request->service},
                                                              {"since_s", std::to_string(seconds)},
                                                              {"limit", std::to_string(request->limit)}})));
      const auto list = MESH_TRY(show<api::HistoryList>(context, document, [&](const api::HistoryList& shown) {
        context.out << history_text(shown, {context.style(), context.output == Output::kWide, base::wall_now()});
      }));
      if (context.machine_output()) return ExitCode::kOk;
      if (list.left_out > 0)
        context.err << fmt::format("meshctl: {} older events are left out; see --limit\n", list.left_out);
      if (list.lost > 0)
        context.err << fmt::format("meshctl: {} events were not written: {}\n", list.lost, printable(list.error));
      if (list.lines_skipped > 0)
        context.err << fmt::format("meshctl: {} damaged lines of the journal were skipped\n", list.lines_skipped);
      return ExitCode::kOk;
    };
  });
}

}  // namespace mesh::cli
