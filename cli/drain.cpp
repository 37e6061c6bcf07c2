// SPDX-License-Identifier: Apache-2.0
// `meshctl drain`: takes an endpoint out of use and ends its connections, without touching where it is configured.
#include "api/drain.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <ostream>
#include <thread>

#include "cli/context.hpp"
#include "cli/views.hpp"

namespace mesh::cli {
namespace {

constexpr auto kPoll = std::chrono::milliseconds(500);

base::Result<ExitCode> list(Context& context) {
  const api::Json document = MESH_TRY(fetch(context, "/v1/drains"));
  const auto drains = MESH_TRY(show<api::DrainList>(context, document, [&](const api::DrainList& shown) {
    context.out << drains_text(shown, {context.style(), context.output == Output::kWide, base::wall_now()});
  }));
  return drains.error.empty() && drains.unreachable.empty() ? ExitCode::kOk : ExitCode::kDegraded;
}

/// Connections that are still open to the endpoints of `asked`; nothing while the agent has not looked yet.
base::Result<std::optional<std::uint64_t>> connections_left(const Context& context, const api::DrainList& asked) {
  const api::Json document = MESH_TRY(fetch(context, "/v1/drains"));
  const auto now = MESH_TRY(api::from_document<api::DrainList>(document));
  std::uint64_t left = 0;
  for (const api::DrainView& one : asked.items) {
    const auto same = [&](const api::DrainView& other) {
      return other.frontend == one.frontend && other.endpoint == one.endpoint;
    };
    const auto found = std::find_if(now.items.begin(), now.items.end(), same);
    if (found == now.items.end()) return std::nullopt;
    left += found->connections;
  }
  return left;
}

base::Result<ExitCode> wait_until_empty(Context& context, const api::DrainList& asked) {
  while (true) {
    std::this_thread::sleep_for(kPoll);
    const auto left = MESH_TRY(connections_left(context, asked));
    if (!left || *left > 0) continue;
    if (!context.machine_output()) context.out << "no connection is left\n";
    return ExitCode::kOk;
  }
}

base::Result<ExitCode> order(Context& context, const api::DrainRequest& request, bool wait) {
  const api::Json document = MESH_TRY(send(context, "/v1/drain", api::encode(request)));
  const auto asked = MESH_TRY(show<api::DrainList>(context, document, [&](const api::DrainList& shown) {
    for (const api::DrainView& item : shown.items) {
      context.out << printable(item.service) << ' ' << item.frontend << ": " << item.endpoint
                  << (item.ordered ? " gets no new connections" : " is in use again") << '\n';
    }
  }));
  return wait && !request.undo ? wait_until_empty(context, asked) : ExitCode::kOk;
}

}  // namespace

std::string drains_text(const api::DrainList& list, const ViewOptions& options) {
  Table table({"SERVICE", "FRONTEND", "ENDPOINT", "WHY", "SINCE", "RESET AT", "CONNECTIONS", "RESET"});
  for (const api::DrainView& item : list.items) {
    table.add({item.service, item.frontend, item.endpoint, item.ordered ? item.reason + ", ordered" : item.reason,
               format_time(item.since, options.now),
               item.deadline.empty() ? "never" : format_time(item.deadline, options.now),
               Cell(std::to_string(item.connections), item.connections == 0 ? Colour::kGreen : Colour::kYellow),
               std::to_string(item.reset)});
  }
  std::string text = table.render(options.style);
  for (const api::UnreachableNamespace& lost : list.unreachable) {
    text += paint(options.style, Colour::kYellow, "unreachable") +
            fmt::format(" {} connections in network namespace {} (made by {}, pid {}): no process is in it\n",
                        lost.connections, lost.netns_cookie, printable(lost.command), lost.pid);
  }
  if (!list.error.empty()) text += paint(options.style, Colour::kRed, "error") + ' ' + printable(list.error) + '\n';
  return text;
}

void add_drain(CLI::App& app, Context& context) {
  auto* command = app.add_subcommand("drain", "take an endpoint out of use, and end its connections");
  auto request = std::make_shared<api::DrainRequest>();
  auto wait = std::make_shared<bool>(false);
  auto list_all = std::make_shared<bool>(false);
  command->add_option("SERVICE", request->service, "NAME, NAME:PORT or ADDR:PORT");
  command->add_option("ENDPOINT", request->endpoint, "ADDR:PORT, or an address: all its ports");
  auto* timeout = command->add_option(
      "--timeout", request->timeout,
      "when connections that are left are reset: 30s, 0, never; drain_timeout of the service without it");
  auto* undo = command->add_flag("--undo", request->undo, "use it again");
  auto* until = command->add_flag("--wait", *wait, "until no connection is left");
  auto* lists = command->add_flag("--list", *list_all, "what is being left now, for whatever reason");
  for (CLI::Option* order : {timeout, undo, until}) lists->excludes(order);
  command->footer(
      "It holds until --undo, also over restarts of the agent.\n"
      "Examples:\n  sudo meshctl drain orders 10.0.0.11:8080 --timeout 1m --wait\n  sudo meshctl drain orders "
      "10.0.0.11:8080 --undo\n  meshctl drain --list --watch");
  command->callback([&context, request, wait, list_all] {
    context.watchable = *list_all;
    context.run = [&context, request, wait, list_all]() -> base::Result<ExitCode> {
      if (*list_all) return list(context);
      if (request->service.empty() || request->endpoint.empty()) {
        return base::fail(base::ErrorKind::kInvalid, "drain: SERVICE and ENDPOINT are missing",
                          "write `meshctl drain orders 10.0.0.11:8080`, or --list");
      }
      return order(context, *request, *wait);
    };
  });
}

}  // namespace mesh::cli
