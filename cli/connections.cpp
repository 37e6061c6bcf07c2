// SPDX-License-Identifier: Apache-2.0
// `meshctl connections`: every balanced socket that is open now.
#include <fmt/format.h>

#include <ostream>

#include "cli/connection_options.hpp"
#include "cli/context.hpp"
#include "cli/views.hpp"

namespace mesh::cli {
namespace {

template <typename T>
std::string number(const std::optional<T>& value) {
  return value ? std::to_string(*value) : "-";
}

std::string or_dash(const std::string& text) { return text.empty() ? "-" : text; }

}  // namespace

std::string process_text(std::uint32_t pid, const std::string& name) {
  return pid == 0 ? "-" : fmt::format("{}/{}", pid, printable(name));
}

std::string connections_text(const api::ConnectionList& list, const ViewOptions& options) {
  std::vector<std::string> headers = {"PROCESS", "SERVICE", "BACKEND", "AGE",  "CONNECT", "STATE",
                                      "OUT",     "IN",      "SRTT",    "RETR", "PATH"};
  if (options.wide) headers.insert(headers.end(), {"ASKED FOR", "LOCAL", "CGROUP", "NETNS", "COOKIE"});
  Table table(std::move(headers));
  for (const api::ConnectionView& one : list.items) {
    std::vector<Cell> cells = {one.feedback ? process_text(one.pid, one.process) : "(feedback off)",
                               one.service.empty() ? one.frontend : one.service,
                               one.backend,
                               format_age_s(one.age_s),
                               format_us(one.connect_us),
                               or_dash(one.state),
                               one.bytes_out ? format_bytes(*one.bytes_out) : "-",
                               one.bytes_in ? format_bytes(*one.bytes_in) : "-",
                               format_us(one.srtt_us),
                               number(one.retransmits),
                               one.path};
    if (options.wide) {
      const std::string netns = one.netns_inode != 0    ? std::to_string(one.netns_inode)
                                : one.netns_cookie != 0 ? fmt::format("cookie {}", one.netns_cookie)
                                                        : "-";
      cells.insert(cells.end(), {one.frontend, or_dash(one.local),
                                 one.cgroup.empty() && one.cgroup_id != 0 ? fmt::format("gone, id {}", one.cgroup_id)
                                                                          : or_dash(one.cgroup),
                                 netns, std::to_string(one.cookie)});
    }
    table.add(std::move(cells));
  }
  std::string text = table.render(options.style);
  if (list.truncated > 0) {
    text += fmt::format("... and {} more of {}: --limit, or a filter\n", list.truncated, list.total);
  }
  for (const std::string& where : list.unreachable) text += "not seen: " + printable(where) + '\n';
  return text;
}

void add_filter_options(CLI::App& command, api::ConnectionFilter& filter) {
  command.add_option("SERVICE,--service", filter.service, "NAME, NAME:PORT or ADDR:PORT");
  command.add_option("--backend", filter.backend, "ADDR or ADDR:PORT");
  command.add_option("--pid", filter.pid, "the process that connected")->check(CLI::Range(1U, ~0U));
  command.add_option("--cgroup", filter.cgroup, "a path and what is below, or the name of one of its parts");
  command.add_option("--netns", filter.netns, "a network namespace by inode (lsns -t net) or cookie")
      ->check(CLI::Validator(
          [](const std::string& text) {  // the library reads -1 as 2^64-1
            const bool positive = text.find_first_of("123456789") != std::string::npos &&
                                  text.find_first_not_of("0123456789") == std::string::npos;
            return positive ? std::string() : "'" + text + "' is no number from 1 up";
          },
          ""));
}

QueryParameters filter_parameters(const api::ConnectionFilter& filter) {
  const auto number_or_none = [](std::uint64_t value) { return value == 0 ? "" : std::to_string(value); };
  return {{"service", filter.service},
          {"backend", filter.backend},
          {"pid", number_or_none(filter.pid)},
          {"cgroup", filter.cgroup},
          {"netns", number_or_none(filter.netns)}};
}

void add_connections(CLI::App& app, Context& context) {
  auto* command =
      app.add_subcommand("connections", "balanced connections that are open now, and what their sockets say");
  auto request = std::make_shared<api::ConnectionRequest>();
  add_filter_options(*command, request->filter);
  command->add_option("--state", request->state, "established, syn_sent, close_wait, closed, ...; connected for UDP");
  command->add_option("--limit", request->limit, "the oldest that many")
      ->check(CLI::Range(std::uint32_t{1}, api::kConnectionLimitMax))
      ->capture_default_str();
  command->footer(
      "SRTT is the network's round trip: a slow application behind a fast network does not show in it.\n"
      "OUT is what the peer acknowledged. A service with `feedback: false` has no process, cgroup and connect time.\n"
      "Examples:\n  meshctl connections orders -o wide\n  meshctl connections --backend 10.0.0.11 --state syn_sent\n"
      "  meshctl connections --cgroup shop.service --watch");
  command->callback([&context, request] {
    context.watchable = true;
    context.run = [&context, request]() -> base::Result<ExitCode> {
      QueryParameters parameters = filter_parameters(request->filter);
      parameters.emplace_back("state", request->state);
      parameters.emplace_back("limit", std::to_string(request->limit));
      const api::Json document = MESH_TRY(fetch(context, make_target("/v1/connections", parameters)));
      MESH_TRY(show<api::ConnectionList>(context, document, [&](const api::ConnectionList& list) {
        context.out << connections_text(list, {context.style(), context.output == Output::kWide, base::wall_now()});
      }));
      return ExitCode::kOk;
    };
  });
}

}  // namespace mesh::cli
