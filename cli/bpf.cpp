// SPDX-License-Identifier: Apache-2.0
// `meshctl bpf dump|diff|stats`, and `meshctl dump`, which reads the pinned tables without an agent.
#include <fmt/format.h>
#include <signal.h>

#include <cerrno>
#include <ostream>

#include "base/plural.hpp"
#include "cli/context.hpp"
#include "cli/meshd.hpp"
#include "cli/views.hpp"

namespace mesh::cli {
namespace {

const std::vector<std::string> kTables = {"control", "frontends", "services", "ranges", "slots", "backends", "owners"};

ViewOptions view_options(const Context& context) {
  return {context.style(), context.output == Output::kWide, base::wall_now()};
}

void append_section(std::string& text, const char* title, const Table& table, const Style& style) {
  if (table.empty()) return;
  text += (text.empty() ? "" : "\n") + paint(style, Colour::kBold, title) + '\n' + table.render(style);
}

/// The first page, then the rest while one table is asked for.
base::Result<api::Json> fetch_dump(const Context& context, const std::string& table) {
  QueryParameters parameters = {{"table", table}, {"limit", std::to_string(api::kDumpLimitMax)}, {"after", ""}};
  api::Json whole = MESH_TRY(fetch(context, make_target("/v1/bpf/dump", parameters)));
  std::uint64_t next = whole.value("next", std::uint64_t{0});
  while (!table.empty() && whole.value("truncated", false) && next != 0) {
    parameters.back().second = std::to_string(next);
    api::Json page = MESH_TRY(fetch(context, make_target("/v1/bpf/dump", parameters)));
    const auto after = page.value("next", std::uint64_t{0});
    for (auto& row : page[table]) whole[table].push_back(std::move(row));
    whole["truncated"] = page.value("truncated", false);
    if (after <= next) break;
    next = after;
  }
  return whole;
}

base::Result<ExitCode> show_dump(Context& context, const api::Json& document, bool held = true) {
  MESH_TRY(show<api::BpfDump>(context, document, [&](const api::BpfDump& dump) {
    context.out << dump_text(dump, view_options(context), held);
  }));
  if (document.value("truncated", false)) {
    context.err << "meshctl: only the first rows of each table are shown; name a table to see all of it\n";
  }
  return ExitCode::kOk;
}

}  // namespace

std::string dump_text(const api::BpfDump& dump, const ViewOptions& options, bool held) {
  std::string text;
  const api::ControlRow& control = dump.control;
  if (!control.layout.empty()) {
    text += fmt::format(
        "control  layout {}  generation {}  applied {}  {}  {} by pid {} ({}) at {}\n", control.layout,
        control.generation, control.applied_at.empty() ? "never" : format_time(control.applied_at, options.now),
        control.pass_until.empty() ? "active" : "pass-through until " + format_time(control.pass_until, options.now),
        held ? "held" : "no agent, last held", control.agent_pid, printable(control.version),
        printable(control.holder));
  }
  Table frontends({"FRONTEND", "SERVICE"});
  for (const auto& row : dump.frontends) frontends.add({row.frontend, std::to_string(row.service_id)});
  Table services({"SERVICE", "FRONTEND", "GENERATION", "RANGE", "PAUSED"});
  for (const auto& row : dump.services) {
    services.add({std::to_string(row.id), row.frontend, std::to_string(row.generation), std::to_string(row.range_id),
                  row.paused_until.empty() ? "-" : format_time(row.paused_until, options.now)});
  }
  Table ranges({"RANGE", "SERVICE", "BASE", "COUNT", "ALGORITHM", "HASH KEY", "SEED", "AFFINITY"});
  for (const auto& row : dump.ranges) {
    ranges.add({std::to_string(row.id), std::to_string(row.service_id), std::to_string(row.base),
                std::to_string(row.count), row.algorithm, row.hash_key, fmt::format("{:08x}", row.seed),
                row.affinity_timeout_s == 0 ? "-" : fmt::format("{}s", row.affinity_timeout_s)});
  }
  Table slots({"SLOT", "BACKEND", "TAG"});
  for (const auto& row : dump.slots) {
    slots.add({std::to_string(row.index), std::to_string(row.backend_id), std::to_string(row.tag)});
  }
  Table backends({"BACKEND", "ADDRESS", "SERVICE", "WEIGHT", "GENERATION", "USABLE", "OPENED"});
  for (const auto& row : dump.backends) {
    backends.add({std::to_string(row.id), row.address, std::to_string(row.service_id), std::to_string(row.weight),
                  std::to_string(row.generation), row.usable ? "yes" : "no", std::to_string(row.opened)});
  }
  Table owners({"SOCKET", "FRONTEND", "BACKEND", "PID", "CGROUP ID", "AGE"});
  for (const auto& row : dump.owners) {
    owners.add({std::to_string(row.cookie), row.frontend, row.backend, std::to_string(row.pid),
                std::to_string(row.cgroup_id), format_ago(row.age_s)});
  }
  append_section(text, "frontends", frontends, options.style);
  append_section(text, "services", services, options.style);
  append_section(text, "ranges", ranges, options.style);
  append_section(text, "slots", slots, options.style);
  append_section(text, "backends", backends, options.style);
  append_section(text, "owners", owners, options.style);
  return text;
}

std::string diff_text(const api::BpfDiff& diff, const ViewOptions& options) {
  if (diff.in_sync) {
    return paint(options.style, Colour::kGreen, "in sync") +
           fmt::format("  generation {}, {} entries compared\n", diff.generation, diff.compared);
  }
  Table table({"TABLE", "KEY", "WANT", "HAVE"});
  for (const auto& row : diff.differences) {
    table.add({row.table, row.key, row.want.empty() ? "-" : row.want, row.have.empty() ? "-" : row.have});
  }
  std::string text = paint(options.style, Colour::kRed, "DRIFT") + fmt::format("  {} in {} entries, generation {}\n",
                                                                               base::counted(diff.total, "difference"),
                                                                               diff.compared, diff.generation);
  text += table.render(options.style);
  if (diff.total > diff.differences.size())
    text += fmt::format("... and {} more\n", diff.total - diff.differences.size());
  return text;
}

std::string stats_text(const api::BpfStats& stats, const ViewOptions& options) {
  std::string text;
  Table programs({"HOOK", "PROGRAM", "NAME", "INSTRUCTIONS", "RUNS", "NS/RUN", "MISSES"});
  for (const auto& row : stats.programs) {
    programs.add({row.hook, std::to_string(row.program_id), row.name, std::to_string(row.instructions),
                  stats.stats_enabled ? std::to_string(row.runs) : "-",
                  row.runs == 0
                      ? "-"
                      : fmt::format("{:.0f}", static_cast<double>(row.run_time_ns) / static_cast<double>(row.runs)),
                  std::to_string(row.misses)});
  }
  Table reasons({"REASON", "COUNT", "MEANING"});
  for (const auto& row : stats.reasons) {
    if (row.count > 0 || options.wide) reasons.add({row.name, std::to_string(row.count), row.text});
  }
  append_section(text, "programs", programs, options.style);
  append_section(text, "reasons", reasons, options.style);
  append_section(text, "maps", maps_table(stats.maps), options.style);
  if (!stats.stats_enabled)
    text += "\nruns are counted with 'sysctl kernel.bpf_stats_enabled=1' (costs some 20 ns a run)\n";
  return text;
}

void add_bpf(CLI::App& app, Context& context) {
  auto* bpf = app.add_subcommand("bpf", "the kernel tables and programs");
  bpf->require_subcommand(1);
  bpf->fallthrough();
  bpf->footer("Examples:\n  meshctl bpf dump backends\n  meshctl bpf diff\n  meshctl bpf stats --watch");

  auto* dump = bpf->add_subcommand("dump", "the tables as the kernel has them");
  auto table = std::make_shared<std::string>();
  dump->add_option("TABLE", *table, "one table, whole; without it the first rows of all but owners")
      ->check(CLI::IsMember(kTables));
  dump->footer("Examples:\n  meshctl bpf dump backends\n  meshctl bpf dump -o json");
  dump->callback([&context, table] {
    context.watchable = true;
    context.run = [&context, table]() -> base::Result<ExitCode> {
      const api::Json document = MESH_TRY(fetch_dump(context, *table));
      return show_dump(context, document);
    };
  });

  auto* diff = bpf->add_subcommand("diff", "what the agent wants against what the kernel has");
  diff->footer("Exit code 0 the same, 5 drift.");
  diff->callback([&context] {
    context.watchable = true;
    context.run = [&context]() -> base::Result<ExitCode> {
      const api::Json document = MESH_TRY(fetch(context, "/v1/bpf/diff"));
      const auto value = MESH_TRY(show<api::BpfDiff>(context, document, [&](const api::BpfDiff& shown) {
        context.out << diff_text(shown, view_options(context));
      }));
      return value.in_sync ? ExitCode::kOk : ExitCode::kDrift;
    };
  });

  auto* stats = bpf->add_subcommand("stats", "programs, reasons and table fill");
  stats->footer(
      "Examples:\n  meshctl bpf stats --watch\n  meshctl bpf stats -o wide      reasons that never happened, too");
  stats->callback([&context] {
    context.watchable = true;
    context.run = [&context]() -> base::Result<ExitCode> {
      const api::Json document = MESH_TRY(fetch(context, "/v1/bpf/stats"));
      MESH_TRY(show<api::BpfStats>(context, document, [&](const api::BpfStats& shown) {
        context.out << stats_text(shown, view_options(context));
      }));
      return ExitCode::kOk;
    };
  });
}

void add_dump(CLI::App& app, Context& context) {
  auto* command = app.add_subcommand("dump", "the pinned tables; needs no agent");
  auto table = std::make_shared<std::string>();
  command->add_option("TABLE", *table, "one table; without it all but owners")->check(CLI::IsMember(kTables));
  command->footer("Examples:\n  sudo meshctl dump backends\n  sudo meshctl dump --bpffs /sys/fs/bpf/meshd -o json");
  command->callback([&context, table] {
    context.run = [&context, table]() -> base::Result<ExitCode> {
      MESH_CHECK(expect_known_mesh(context));
      std::vector<std::string> arguments = {"dump"};
      if (!table->empty()) arguments.insert(arguments.end(), {"--table", *table});
      const MeshdAnswer answer = MESH_TRY(run_meshd(context, std::move(arguments)));
      if (answer.exit_code != 0) return static_cast<ExitCode>(answer.exit_code);  // meshd has said why
      const api::Json document = MESH_TRY(api::detail::parse(answer.output));
      const pid_t agent = document.at("control").value("agent_pid", 0);
      const bool held = agent > 0 && (::kill(agent, 0) == 0 || errno != ESRCH);
      return show_dump(context, document, held);
    };
  });
}

}  // namespace mesh::cli
