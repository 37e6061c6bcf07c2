// SPDX-License-Identifier: Apache-2.0
// `meshctl flows`: connections that ended, as samples; -f goes on with those that end from now on.
#include <fmt/format.h>

#include <ostream>
#include <thread>

#include "cli/connection_options.hpp"
#include "cli/context.hpp"
#include "cli/views.hpp"

namespace mesh::cli {
namespace {

constexpr auto kPollInterval = std::chrono::milliseconds(500);

std::string duration_text(double seconds) {
  if (seconds < 60) return format_us(static_cast<std::uint32_t>(seconds * 1e6));
  return format_age_s(seconds);
}

/// Widths of its own, so that what follows later stands in the same columns.
std::string line(const api::FlowView& flow, const ViewOptions& options) {
  const std::string service = flow.service.empty() ? flow.frontend : flow.service;
  const std::string outcome = fmt::format("{:<11}", printable(flow.outcome));
  std::string text =
      fmt::format("{:<10} {:<22} {:<20} {:<22} {} {:>8} {:>8} {:>10} {:>10} {:>8} {:>4}",
                  format_time(flow.time, options.now), process_text(flow.pid, flow.process), printable(service),
                  printable(flow.backend), paint(options.style, flow.failed ? Colour::kRed : Colour::kNone, outcome),
                  format_us(flow.connect_us), duration_text(flow.duration_s), format_bytes(flow.bytes_out),
                  format_bytes(flow.bytes_in), format_us(flow.srtt_us), flow.retransmits);
  if (options.wide)
    text += "  " + printable(flow.frontend) + "  " + printable(flow.path) + "  " +
            (flow.cgroup.empty() ? "-" : printable(flow.cgroup));
  return text + '\n';
}

QueryParameters parameters_of(const api::FlowRequest& request) {
  QueryParameters parameters = filter_parameters(request.filter);
  parameters.emplace_back("outcome", request.outcome);
  parameters.emplace_back("failed", request.failed ? "1" : "");
  parameters.emplace_back("after", request.after == 0 ? "" : std::to_string(request.after));
  parameters.emplace_back("limit", std::to_string(request.limit));
  return parameters;
}

ViewOptions view_options(const Context& context) {
  return {context.style(), context.output == Output::kWide, base::wall_now()};
}

/// Until Ctrl-C, or until nobody reads. Machines get one flow a line.
base::Result<ExitCode> follow(Context& context, api::FlowRequest request) {
  bool first = true;
  std::uint64_t dropped_by_ring = 0;
  while (context.out) {
    const api::Json document = MESH_TRY(fetch(context, make_target("/v1/flows", parameters_of(request))));
    const auto list = MESH_TRY(api::from_document<api::FlowList>(document));
    if (context.machine_output()) {
      for (const api::Json& item : document.at("items")) context.out << api::detail::dump(item) << '\n';
    } else {
      ViewOptions options = view_options(context);
      options.style.headers = options.style.headers && first;
      context.out << flows_text(list, options);
    }
    context.out.flush();
    if (list.dropped_by_log > 0) {
      context.err << fmt::format("meshctl: {} flows came faster than they were read\n", list.dropped_by_log);
    }
    if (!first && list.dropped_by_ring > dropped_by_ring) {
      context.err << fmt::format("meshctl: {} flows found the kernel's ring full (agent.limits.events)\n",
                                 list.dropped_by_ring - dropped_by_ring);
    }
    dropped_by_ring = list.dropped_by_ring;
    const bool more = !first && list.items.size() >= request.limit;
    request.after = list.next;
    request.limit = api::kFlowLimitMax;
    first = false;
    if (!more) std::this_thread::sleep_for(kPollInterval);
  }
  return ExitCode::kOk;
}

}  // namespace

std::string flows_text(const api::FlowList& list, const ViewOptions& options) {
  std::string text;
  if (options.style.headers) {
    text = fmt::format("{:<10} {:<22} {:<20} {:<22} {:<11} {:>8} {:>8} {:>10} {:>10} {:>8} {:>4}{}\n", "TIME",
                       "PROCESS", "SERVICE", "BACKEND", "OUTCOME", "CONNECT", "LASTED", "OUT", "IN", "SRTT", "RETR",
                       options.wide ? "  ASKED FOR  PATH  CGROUP" : "");
  }
  for (const api::FlowView& flow : list.items) text += line(flow, options);
  return text;
}

void add_flows(CLI::App& app, Context& context) {
  auto* command = app.add_subcommand("flows", "connections that ended, and how; -f: as they end");
  auto request = std::make_shared<api::FlowRequest>();
  auto following = std::make_shared<bool>(false);
  add_filter_options(*command, request->filter);
  command->add_flag("-f,--follow", *following, "go on with those that end from now on, until Ctrl-C");
  command->add_option("--outcome", request->outcome,
                      "closed, refused, timed_out, unreachable, aborted, reset, lost, reset_by_us or killed");
  command->add_flag("--failed", request->failed, "only refused, timed_out, unreachable, reset and lost");
  command->add_option("--limit", request->limit, "the newest that many")
      ->check(CLI::Range(std::uint32_t{1}, api::kFlowLimitMax))
      ->capture_default_str();
  command->footer(
      "Samples, best effort: what was lost on the way is said; counters (`top`, `stat`, metrics) lose nothing.\n"
      "SRTT is the network's round trip and blind to a slow application. With -f, -o json is one flow a line.\n"
      "Examples:\n  meshctl flows -f --failed\n  meshctl flows orders --outcome timed_out\n"
      "  meshctl flows -f -o json | jq 'select(.connect_us > 10000)'");
  command->callback([&context, request, following] {
    context.run = [&context, request, following]() -> base::Result<ExitCode> {
      if (*following) return follow(context, *request);
      const api::Json document = MESH_TRY(fetch(context, make_target("/v1/flows", parameters_of(*request))));
      MESH_TRY(show<api::FlowList>(context, document, [&](const api::FlowList& list) {
        context.out << flows_text(list, view_options(context));
        if (list.dropped_by_ring > 0) {
          context.err << fmt::format("meshctl: {} samples were dropped since the tables were made: the ring was full\n",
                                     list.dropped_by_ring);
        }
      }));
      return ExitCode::kOk;
    };
  });
}

}  // namespace mesh::cli
