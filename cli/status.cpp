// SPDX-License-Identifier: Apache-2.0
// `meshctl status`: one line that says whether connects are balanced and what proves it, then what is wrong, then
// (wide) every hook, canary, table and source. Without an agent it tells what the pins know.
#include <fmt/format.h>

#include <algorithm>
#include <ostream>

#include "base/plural.hpp"
#include "cli/context.hpp"
#include "cli/meshd.hpp"
#include "cli/views.hpp"

namespace mesh::cli {
namespace {

using api::CanaryView;
using api::HookView;
using api::MapFill;
using api::Status;

std::string canary_part(const Status& status, const Style& style) {
  std::size_t ok = 0;
  std::size_t failed = 0;
  std::optional<double> oldest;
  for (const CanaryView& canary : status.canary) {
    ok += canary.result == "ok" ? 1 : 0;
    failed += canary.result == "failed" ? 1 : 0;
    if (canary.checked_ago_s) oldest = std::max(oldest.value_or(0), *canary.checked_ago_s);
  }
  if (status.canary.empty()) return "canary off";
  if (failed > 0) {
    return "canary " + paint(style, Colour::kRed, fmt::format("FAILED {} of {}", failed, ok + failed)) + ' ' +
           format_ago(oldest);
  }
  if (ok == 0) return "canary " + paint(style, Colour::kYellow, "not run yet");
  return "canary " + paint(style, Colour::kGreen, "ok") + ' ' + format_ago(oldest);
}

std::string hooks_part(const Status& status, const Style& style) {
  const auto effective = std::count_if(status.hooks.begin(), status.hooks.end(), [](const HookView& hook) {
    return hook.attached && hook.effective.value_or(false);
  });
  const auto total = static_cast<std::ptrdiff_t>(status.hooks.size());
  return "hooks " + paint(style, effective == total && total > 0 ? Colour::kNone : Colour::kRed,
                          fmt::format("{}/{} effective", effective, total));
}

std::string apply_part(const Status& status, const Style& style) {
  const api::ApplyView& apply = status.apply;
  const std::string counts =
      fmt::format("({}, {})", base::counted(status.services, "service"), base::counted(status.endpoints, "endpoint"));
  if (!apply.error.empty()) return paint(style, Colour::kRed, "apply failed") + ' ' + counts;
  if (apply.generation_desired == apply.generation_kernel) {
    return (apply.audited_ago_s ? "desired = kernel, compared " + format_ago(apply.audited_ago_s) + ' '
                                : "desired = kernel as written, not compared yet ") +
           counts;
  }
  return paint(style, Colour::kYellow,
               fmt::format("desired {} != kernel {}", apply.generation_desired, apply.generation_kernel)) +
         ' ' + counts;
}

/// The fullest table; its name where that matters.
std::string maps_part(const Status& status) {
  const auto fill = [](const MapFill& map) { return fill_of(map).value_or(0); };
  const auto fullest = std::ranges::max_element(status.maps, {}, fill);
  if (fullest == status.maps.end()) return "maps unknown";
  return "maps " + format_percent(fill(*fullest)) + (fill(*fullest) >= 0.5 ? " (" + fullest->name + ")" : "");
}

/// What is wrong with services and endpoints, also where that is theirs and no fault of the mesh.
std::string trouble_part(const Status& status, const Style& style) {
  std::vector<std::string> parts;
  if (status.services_refusing > 0)
    parts.push_back(base::counted(status.services_refusing, "service") +
                    (status.services_refusing == 1 ? " refuses" : " refuse"));
  if (status.endpoints_down > 0) parts.push_back(base::counted(status.endpoints_down, "endpoint") + " down");
  if (status.endpoints_ejected > 0) parts.push_back(base::counted(status.endpoints_ejected, "endpoint") + " ejected");
  if (parts.empty()) return "";
  return paint(style, Colour::kYellow, fmt::format("{}", fmt::join(parts, ", "))) + "  ";
}

std::string source_part(const api::SourceView& source, const Style& style) {
  const std::string text = printable(source.name) + ": " + paint(style, colour_of_state(source.state), source.state);
  if (source.state == "synced") return text + ' ' + format_ago(source.synced_ago_s);
  return text + (source.synced_ago_s ? ", last synced " + format_ago(source.synced_ago_s) : ", never synced");
}

std::string mode_part(const Status& status, const ViewOptions& options) {
  if (status.mode != "pass_through") return "";
  const std::string until = status.pass_until.empty() ? "" : " until " + format_time(status.pass_until, options.now);
  return paint(options.style, Colour::kYellow, "PASS-THROUGH" + until) + "  ";
}

std::string agent_down_text(const Status& status, const ViewOptions& options) {
  const Style& style = options.style;
  std::string text = paint(style, Colour::kRed, "agent down");
  text += "  " + mode_part(status, options) + "last apply ";
  text += status.apply.last_apply_at.empty() ? "unknown" : format_time(status.apply.last_apply_at, options.now);
  if (status.apply.last_apply_ago_s) text += " (" + format_ago(status.apply.last_apply_ago_s) + ")";
  text += fmt::format("  generation {}  ", status.apply.generation_kernel) +
          fmt::format("hooks {} attached  ", std::count_if(status.hooks.begin(), status.hooks.end(),
                                                           [](const HookView& hook) { return hook.attached; })) +
          maps_part(status);
  return text + "\nconnects are still balanced by the pinned tables, but nothing keeps them right\n";
}

std::string wide_text(const Status& status, const ViewOptions& options) {
  const Style& style = options.style;
  std::string text =
      fmt::format("\nversion {}  pid {}  up {}  loop {}  memory {}  probes {} up, {} down, {} unknown, {:.0f}/s\n",
                  printable(status.version), status.pid,
                  status.uptime_s ? format_ago(status.uptime_s).substr(0, format_ago(status.uptime_s).size() - 4) : "-",
                  printable(status.loop.reason.empty() ? status.loop.kind : status.loop.reason),
                  format_bytes(status.memory_resident_bytes), status.probes.up, status.probes.down,
                  status.probes.unknown, status.probes.per_second);
  text += fmt::format("config {}  loaded {}{}\n", printable(status.config.path),
                      format_time(status.config.loaded_at, options.now),
                      status.config.from_state ? "  (last good snapshot, stale)" : "");
  text += fmt::format("records of sockets: {} freed whose socket was gone, {} out of reach{}\n", status.records.freed,
                      status.records.unreachable,
                      status.records.error.empty() ? "" : "; not compared: " + printable(status.records.error));
  Table hooks({"CGROUP", "HOOK", "PROGRAM", "AGE", "EFFECTIVE", "DETAIL"});
  for (const HookView& hook : status.hooks) {
    const std::string effective = !hook.attached ? "no" : !hook.effective ? "unknown" : *hook.effective ? "yes" : "no";
    hooks.add({hook.cgroup, hook.hook, hook.program_id == 0 ? "-" : std::to_string(hook.program_id),
               format_ago(hook.age_s), Cell(effective, colour_of_state(effective)), hook.detail});
  }
  Table canary({"CGROUP", "CANARY", "RESULT", "CHECKED", "DETAIL"});
  for (const CanaryView& check : status.canary) {
    canary.add({check.cgroup, check.path, Cell(check.result, colour_of_state(check.result)),
                format_ago(check.checked_ago_s), check.detail});
  }
  const Table maps = maps_table(status.maps);
  for (const Table* table : std::initializer_list<const Table*>{&hooks, &canary, &maps}) {
    if (!table->empty()) text += '\n' + table->render(style);
  }
  return text;
}

/// The status that `meshd status` reads from the pins.
base::Result<ExitCode> show_pins(Context& context, const base::Error& unreachable) {
  if (const auto known = expect_known_mesh(context); !known) {
    base::Error error = unreachable;
    error.remedy = "start it, or see what it left: " + known.error().remedy;
    return std::unexpected(std::move(error));
  }
  // meshd ends with 69 here, too: what counts is whether it found pins to read.
  const auto answer = run_meshd(context, {"status"});
  if (!answer) return std::unexpected(unreachable);
  const auto parsed = api::detail::parse(answer->output);
  if (!parsed || !api::from_document<Status>(*parsed)) return std::unexpected(unreachable);
  const api::Json& document = *parsed;
  MESH_TRY(show<Status>(context, document, [&](const Status& status) {
    context.out << status_text(status, {context.style(), context.output == Output::kWide, base::wall_now()});
  }));
  context.err << "meshctl: " << printable(unreachable.to_string()) << '\n';
  return ExitCode::kUnreachable;
}

base::Result<ExitCode> run_status(Context& context) {
  const auto document = fetch(context, "/v1/status");
  if (!document && document.error().kind == base::ErrorKind::kUnavailable) return show_pins(context, document.error());
  if (!document) return std::unexpected(document.error());
  const Status status = MESH_TRY(show<Status>(context, *document, [&](const Status& shown) {
    context.out << status_text(shown, {context.style(), context.output == Output::kWide, base::wall_now()});
  }));
  const bool drift = std::ranges::any_of(status.conditions, [](const auto& c) { return c.name == "drift"; });
  if (drift) return ExitCode::kDrift;
  return status.state == "healthy" ? ExitCode::kOk : ExitCode::kDegraded;
}

}  // namespace

std::optional<double> fill_of(const MapFill& map) {
  if (!map.used || map.size == 0) return std::nullopt;
  return static_cast<double>(*map.used) / static_cast<double>(map.size);
}

Table maps_table(const std::vector<MapFill>& maps) {
  Table table({"MAP", "USED", "SIZE", "FILL", "MEMORY"});
  for (const MapFill& map : maps) {
    const auto fill = fill_of(map);
    table.add({map.name, map.used ? std::to_string(*map.used) : "-", std::to_string(map.size),
               fill ? format_percent(*fill) : "-", format_bytes(map.bytes)});
  }
  return table;
}

std::string status_text(const Status& status, const ViewOptions& options) {
  const Style& style = options.style;
  std::string text;
  if (status.state == "agent_down") {
    text = agent_down_text(status, options);
  } else {
    text = paint(style, colour_of_state(status.state), status.state) + "  " + mode_part(status, options) +
           trouble_part(status, style) + canary_part(status, style) + "  " + hooks_part(status, style) + "  " +
           apply_part(status, style) + "  " + maps_part(status);
    for (const api::SourceView& source : status.sources) text += "  " + source_part(source, style);
    text += '\n';
  }
  for (const api::Condition& condition : status.conditions) {
    const Colour colour = condition.severity == "notice" ? Colour::kYellow : Colour::kRed;
    text += paint(style, colour, condition.severity == "notice" ? "note" : "problem") + ' ' +
            printable(condition.name) + ": " + printable(condition.message) + '\n';
    if (!condition.remedy.empty()) text += "  -> " + printable(condition.remedy) + '\n';
  }
  if (!status.config.last_reload_ok) text += diagnostics_text(status.config.errors);
  return options.wide ? text + wide_text(status, options) : text;
}

void add_status(CLI::App& app, Context& context) {
  auto* command = app.add_subcommand("status", "is it balanced, and what proves it");
  command->footer(
      "Exit code 0 healthy, 3 degraded, 5 drift that could not be repaired, 69 no agent (then it shows what the pinned "
      "tables know).\n"
      "Examples:\n  meshctl status\n  meshctl status -o wide            every hook, canary, map\n"
      "  meshctl status -o json | jq .conditions");
  command->callback([&context] {
    context.watchable = true;
    context.run = [&context] { return run_status(context); };
  });
}

}  // namespace mesh::cli
