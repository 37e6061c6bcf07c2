// SPDX-License-Identifier: Apache-2.0
// `meshctl services`, `endpoints` and `sources`: what the agent believes, as tables.
#include <fmt/format.h>

#include <ostream>

#include "cli/context.hpp"
#include "cli/views.hpp"

namespace mesh::cli {
namespace {

using api::EndpointView;
using api::ServiceView;

ViewOptions view_options(const Context& context) {
  return {context.style(), context.output == Output::kWide, base::wall_now()};
}

/// Runs GET `path` in pages and shows the whole list.
template <typename T>
base::Result<ExitCode> show_list(Context& context, std::string_view path, const std::string& service,
                                 std::string (*text)(const T&, const ViewOptions&)) {
  const api::Json document = MESH_TRY(
      context.client().get_all(path, {{"service", service}, {"limit", std::to_string(api::kPageLimitDefault)}}));
  MESH_TRY(show<T>(context, document, [&](const T& list) { context.out << text(list, view_options(context)); }));
  return ExitCode::kOk;
}

std::string state_of(const ServiceView& service) {
  if (!service.paused_until.empty()) return "paused";
  if (service.eligible == 0) return "refusing";
  return service.panic ? "panic" : "ok";
}

std::string freshness_of(const ServiceView& service) {
  if (service.source_state.empty()) return "-";
  return service.source_state + ' ' + format_ago(service.source_synced_ago_s) +
         (service.only_confirmed ? ", only confirmed" : "");
}

}  // namespace

std::string services_text(const api::ServiceList& list, const ViewOptions& options) {
  std::vector<std::string> headers = {"SERVICE", "FRONTEND", "BALANCE",  "ENDPOINTS",
                                      "STATE",   "PROBE",    "CONNECTS", "REFUSED"};
  if (options.wide) {
    headers.insert(headers.end(),
                   {"ID", "HASH KEY", "AFFINITY", "DATAGRAMS", "PASSED", "SOURCE", "FRESHNESS", "ORIGIN"});
  }
  Table table(std::move(headers));
  for (const ServiceView& service : list.items) {
    const std::string state = state_of(service);
    std::vector<Cell> row = {service.name,
                             service.frontend,
                             service.algorithm,
                             fmt::format("{}/{}", service.eligible, service.endpoints),
                             Cell(state, state == "refusing" ? Colour::kRed : colour_of_state(state)),
                             service.probe.empty() ? "-" : service.probe,
                             std::to_string(service.counters.connects),
                             std::to_string(service.counters.refused)};
    if (options.wide) {
      row.insert(row.end(), {std::to_string(service.service_id), service.hash_key,
                             service.affinity_timeout_s == 0 ? "-" : fmt::format("{}s", service.affinity_timeout_s),
                             std::to_string(service.counters.datagrams), std::to_string(service.counters.passed),
                             service.source, freshness_of(service), service.origin});
    }
    table.add(std::move(row));
  }
  return table.render(options.style);
}

std::string health_text(const EndpointView& endpoint, base::WallTime now) {
  std::string text;
  const std::string since = endpoint.since.empty() ? "" : " since " + format_time(endpoint.since, now);
  if (endpoint.verdict == "down") {
    const std::string& why = endpoint.detail.empty() ? endpoint.reason : endpoint.detail;
    text = fmt::format("down: {} x{}{}", why, endpoint.streak, since);
  } else if (endpoint.verdict == "up") {
    text = (endpoint.detail.empty() ? "up" : endpoint.detail) + ' ' + format_ago(endpoint.checked_ago_s);
  } else {
    text = endpoint.checked_ago_s ? "unknown" : "not probed";
  }
  if (endpoint.ejection == "ejected") {
    text = fmt::format("until {}: {}; {}", format_time(endpoint.ejected_until, now), endpoint.standing, text);
  } else if (endpoint.ejection == "probation") {
    text = fmt::format("on probation at {} %: {}; {}", endpoint.weight_percent, endpoint.standing, text);
  }
  if (endpoint.eligibility == "draining") text = "draining, " + text;
  if (endpoint.eligibility == "weight_zero") text = "weight 0, " + text;
  if (endpoint.eligibility == "far") text = "far, " + text;
  if (endpoint.eligibility == "panic") text = "used in panic, " + text;
  if (endpoint.eligibility == "unconfirmed") text = "its source is stale and no probe confirms it; " + text;
  if (endpoint.eligibility == "awaiting_check") text = "awaiting its first check";
  return printable(text);
}

std::string endpoints_text(const api::EndpointList& list, const ViewOptions& options) {
  std::vector<std::string> headers = {"SERVICE", "ENDPOINT", "WEIGHT", "SHARE", "STATE", "HEALTH", "PICKS"};
  if (options.wide)
    headers.insert(headers.end(),
                   {"FRONTEND", "BACKEND", "ZONE", "NODE", "TIER", "SOURCE", "VERDICT", "REASON", "STREAK", "CHECKED"});
  Table table(std::move(headers));
  for (const EndpointView& endpoint : list.items) {
    std::vector<Cell> row = {endpoint.service,
                             endpoint.address,
                             std::to_string(endpoint.weight),
                             format_percent(endpoint.share),
                             Cell(endpoint.eligibility, colour_of_state(endpoint.eligibility)),
                             health_text(endpoint, options.now),
                             std::to_string(endpoint.picks)};
    if (options.wide) {
      row.insert(row.end(),
                 {endpoint.frontend, endpoint.backend_id == 0 ? "-" : std::to_string(endpoint.backend_id),
                  endpoint.zone.empty() ? "-" : endpoint.zone, endpoint.node.empty() ? "-" : endpoint.node,
                  std::to_string(endpoint.tier), endpoint.source.empty() ? "-" : endpoint.source, endpoint.verdict,
                  endpoint.reason, std::to_string(endpoint.streak), format_ago(endpoint.checked_ago_s)});
    }
    table.add(std::move(row));
  }
  return table.render(options.style);
}

namespace {

/// Answers that were refused: by the agent, and by clients of its xDS server.
std::string refusals_text(const api::SourceList& list, const ViewOptions& options) {
  Table table({"REFUSED BY", "SAID BY", "LAST", "TIMES", "WHAT", "VERSION", "WHY"});
  const auto add = [&](const std::string& by, const std::string& said, const api::RefusalView& one) {
    table.add({by, said, format_time(one.at, options.now), std::to_string(one.times), one.what, one.version, one.why});
  };
  bool any = false;
  for (const api::SourceView& source : list.items) {
    for (const api::RefusalView& one : source.refusals) add("meshd", source.name, one);
    any = any || !source.refusals.empty();
  }
  for (const api::RefusalView& one : list.client_refusals) add(one.client, "meshd", one);
  any = any || !list.client_refusals.empty();
  return any ? "\n" + table.render(options.style) : "";
}

}  // namespace

std::string sources_text(const api::SourceList& list, const ViewOptions& options) {
  std::vector<std::string> headers = {"SOURCE", "STATE", "SYNCED", "SERVICES", "ENDPOINTS", "ERROR"};
  if (options.wide)
    headers.insert(headers.end(), {"TYPE", "SINCE", "MAX STALE", "CONFIRMED ONLY", "UPDATES", "ERRORS"});
  Table table(std::move(headers));
  for (const api::SourceView& source : list.items) {
    std::vector<Cell> row = {source.name,
                             Cell(source.state, colour_of_state(source.state)),
                             format_ago(source.synced_ago_s),
                             std::to_string(source.services),
                             std::to_string(source.endpoints),
                             source.error.empty() ? "-" : source.error};
    if (options.wide) {
      std::string errors = std::to_string(source.errors);
      for (const auto& [kind, count] : source.errors_by_kind) errors += fmt::format(" {}:{}", kind, count);
      row.insert(row.end(), {source.type.empty() ? "-" : source.type,
                             source.since.empty() ? "-" : format_time(source.since, options.now),
                             source.type == "file" ? "-"
                             : source.max_stale_s  ? fmt::format("{}s", *source.max_stale_s)
                                                   : "never",
                             source.only_confirmed ? "yes" : "no", std::to_string(source.updates), errors});
    }
    table.add(std::move(row));
  }
  std::string text = table.render(options.style);
  if (options.wide) text += refusals_text(list, options);
  for (const api::ConflictView& conflict : list.conflicts) {
    text += paint(options.style, Colour::kYellow, "conflict") + ' ' + printable(conflict.frontend) + ": " +
            printable(conflict.winner) + " is used, " + printable(conflict.loser) + " is not\n";
  }
  return text;
}

void add_services(CLI::App& app, Context& context) {
  auto* command = app.add_subcommand("services", "services, their frontends and counters");
  auto name = std::make_shared<std::string>();
  command->add_option("SERVICE", *name, "NAME, NAME:PORT or ADDR:PORT; all without it");
  command->footer("Examples:\n  meshctl services\n  meshctl services orders -o wide");
  command->callback([&context, name] {
    context.watchable = true;
    context.run = [&context, name] {
      return show_list<api::ServiceList>(context, "/v1/services", *name, services_text);
    };
  });
}

void add_endpoints(CLI::App& app, Context& context) {
  auto* command = app.add_subcommand("endpoints", "endpoints: share of new connections, verdict and why");
  auto name = std::make_shared<std::string>();
  command->add_option("SERVICE", *name, "NAME, NAME:PORT or ADDR:PORT; all without it");
  command->footer(
      "Examples:\n  meshctl endpoints orders --watch\n  meshctl endpoints -o json | jq '.items[] | select(.share == "
      "0)'");
  command->callback([&context, name] {
    context.watchable = true;
    context.run = [&context, name] {
      return show_list<api::EndpointList>(context, "/v1/endpoints", *name, endpoints_text);
    };
  });
}

void add_sources(CLI::App& app, Context& context) {
  auto* command = app.add_subcommand("sources", "where services come from, and how fresh that is");
  command->footer("Examples:\n  meshctl sources\n  meshctl sources -o yaml");
  command->callback([&context] {
    context.watchable = true;
    context.run = [&context]() -> base::Result<ExitCode> {
      const api::Json document = MESH_TRY(fetch(context, "/v1/sources"));
      MESH_TRY(show<api::SourceList>(context, document, [&](const api::SourceList& list) {
        context.out << sources_text(list, view_options(context));
      }));
      return ExitCode::kOk;
    };
  });
}

}  // namespace mesh::cli
