// SPDX-License-Identifier: Apache-2.0
// The command tree, the global options, and one place that turns results into exit codes.
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <ostream>
#include <thread>

#include "base/suggest.hpp"
#include "cli/context.hpp"

namespace mesh::cli {
namespace {

constexpr const char* kFooter = R"(Examples:
  meshctl check                                   what this host lacks, before the agent runs
  meshctl status                                  one line: is it balanced, and what proves it
  meshctl explain orders --from shop.service      where would connect() go, and why
  meshctl endpoints orders --watch                verdicts and shares, every second
  meshctl run --as shop.service -- curl 240.64.0.10
  meshctl pause --for 10m                         pass everything through; ends by itself

Exit codes:
  0 ok   1 failure   2 usage   3 degraded   4 not found   5 drift
  69 agent unreachable   77 permission denied   78 bad configuration)";

/// The name of an output form becomes its number, as CLI11 reads enums; returns what is wrong.
std::string output_number(std::string& text) {
  constexpr std::array<std::pair<std::string_view, Output>, 4> kOutputs = {
      {{"table", Output::kTable}, {"wide", Output::kWide}, {"json", Output::kJson}, {"yaml", Output::kYaml}}};
  const std::string name = CLI::detail::to_lower(text);
  for (const auto& [known, output] : kOutputs) {
    if (known != name) continue;
    text = std::to_string(static_cast<int>(output));
    return "";
  }
  return "unknown form '" + text + "'; use one of: table, wide, json, yaml";
}

/// What was written in place of a command, and what it may have been meant to be; "" if that is not the mistake.
std::string unknown_command(const CLI::App& app) {
  const CLI::App* at = &app;
  while (!at->get_subcommands().empty()) at = at->get_subcommands().front();
  std::vector<std::string> names;
  for (const CLI::App* command : at->get_subcommands([](const CLI::App*) { return true; })) {
    if (!command->get_name().empty()) names.push_back(command->get_name());
  }
  const std::vector<std::string> left = app.remaining(true);
  if (names.empty() || left.empty() || left.front().starts_with('-')) return "";
  const std::vector<std::string_view> known(names.begin(), names.end());
  return "unknown command '" + left.front() + "'; " + base::suggest_name(left.front(), known);
}

void print_error(const Context& context, const base::Error& error) {
  context.err << "meshctl: " << printable(error.message) << '\n';
  if (!error.remedy.empty()) context.err << "  " << printable(error.remedy) << '\n';
}

ExitCode code_of(const base::Error& error) {
  return error.kind == base::ErrorKind::kUnavailable || error.kind == base::ErrorKind::kTimeout
             ? ExitCode::kUnreachable
             : api::exit_code_for(error.kind);
}

ExitCode run_once(Context& context) {
  const auto result = context.run();
  context.out.flush();
  if (result) return *result;
  print_error(context, result.error());
  return code_of(result.error());
}

/// Until Ctrl-C, or until nobody reads.
ExitCode run_for_ever(Context& context) {
  while (true) {
    if (context.terminal && !context.machine_output()) context.out << "\033[H\033[2J";
    const ExitCode code = run_once(context);
    if (!context.out) return code;
    std::this_thread::sleep_for(std::chrono::duration<double>(context.watch_interval_s));
  }
}

}  // namespace

void build_commands(CLI::App& app, Context& context) {
  app.name("meshctl");
  app.description("Shows and steers meshd, the mesh agent of this host.");
  app.footer(kFooter);
  app.require_subcommand(1);
  app.fallthrough();
  app.option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);

  app.add_option("-s,--socket", context.socket, "the agent's unix socket")
      ->envname("MESHD_SOCKET")
      ->capture_default_str();
  app.add_option("-o,--output", context.output, "table, wide, json or yaml")
      ->transform(CLI::Validator(output_number, ""))
      ->type_name("FORMAT");
  app.add_flag("-w,--watch", context.watch, "print again until Ctrl-C, where that makes sense");
  app.add_option("--interval", context.watch_interval_s, "seconds between prints of --watch")
      ->check(CLI::Range(0.1, 3600.0))
      ->capture_default_str();
  app.add_option("--timeout", context.timeout_s, "seconds to wait for the agent")
      ->check(CLI::Range(0.01, 3600.0))
      ->capture_default_str();
  app.add_flag("--no-headers", context.no_headers, "tables without their first line");
  app.add_option("--config", context.config_path, "meshd.yaml, for commands that work without an agent");
  app.add_option("--bpffs", context.bpffs, "folder of the pins, for commands that work without an agent");

  for (const auto add : {add_status, add_check,    add_services, add_endpoints, add_sources, add_certs, add_connections,
                         add_flows,  add_top,      add_stat,     add_history,   add_explain, add_bpf,   add_run,
                         add_drain,  add_pause,    add_config,   add_log_level, add_reload,  add_ca,    add_detach,
                         add_dump,   add_estimate, add_version,  add_completion}) {
    add(app, context);
  }
}

int run_meshctl(int argc, const char* const* argv, Context& context) {
  CLI::App app;
  build_commands(app, context);
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& asked_for_help) {
    return app.exit(asked_for_help, context.out, context.err);
  } catch (const CLI::ParseError& error) {
    const std::string unknown = unknown_command(app);
    context.err << "meshctl: " << printable(unknown.empty() ? error.what() : unknown)
                << "\n  try 'meshctl --help', or --help after a command\n";
    return static_cast<int>(ExitCode::kUsage);
  }
  if (context.watch && !context.watchable) {
    context.err << "meshctl: --watch makes no sense with this command\n";
    return static_cast<int>(ExitCode::kUsage);
  }
  return static_cast<int>(context.watch ? run_for_ever(context) : run_once(context));
}

}  // namespace mesh::cli
