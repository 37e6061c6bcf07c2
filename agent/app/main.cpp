// SPDX-License-Identifier: Apache-2.0
// The meshd binary: `meshd run` is the agent; the other commands work without one, on files and pins.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <iostream>
#include <optional>

#include "app/agent.hpp"
#include "app/ca_command.hpp"
#include "app/commands.hpp"
#include "app/config.hpp"
#include "app/relay_process.hpp"
#include "app/state_store.hpp"
#include "app/version.hpp"
#include "base/log.hpp"
#include "datapath/canary.hpp"

namespace mesh::app {
namespace {

constexpr std::string_view kDefaultConfig = "/etc/meshd/meshd.yaml";

int exit_code(const base::Error& error) {
  // A configuration is the only input of `meshd run` that can be invalid.
  if (error.kind == base::ErrorKind::kInvalid) return static_cast<int>(api::ExitCode::kBadConfig);
  return static_cast<int>(api::exit_code_for(error.kind));
}

int report(const base::Error& error) {
  std::fprintf(stderr, "meshd: %s\n", error.to_string().c_str());
  return exit_code(error);
}

/// The configuration, or, if it is broken, the last good state on disk; nothing, after all errors were printed,
/// without.
std::optional<StartConfig> load_start(const std::string& path, const std::string& state_dir) {
  StartConfig start;
  start.path = std::filesystem::absolute(path).lexically_normal();
  start.loaded_at = base::wall_now();
  LoadResult loaded = load_config(start.path);
  for (const Diagnostic& warning : loaded.warnings)
    std::fprintf(stderr, "meshd: warning: %s\n", warning.to_string().c_str());
  if (loaded.good()) {
    start.config = std::move(loaded.config);
    start.restored = restored_services(start.config.agent.state_dir);
    return start;
  }
  for (const Diagnostic& error : loaded.errors) std::fprintf(stderr, "meshd: %s\n", error.to_string().c_str());
  auto saved = StateStore::load(state_dir);
  if (!saved) {
    if (saved.error().kind != base::ErrorKind::kNotFound)
      std::fprintf(stderr, "meshd: %s\n", saved.error().to_string().c_str());
    return std::nullopt;
  }
  std::fprintf(stderr, "meshd: starting from the last good state of %s\n",
               base::format_rfc3339(saved->saved_at).c_str());
  start.refused = loaded.error();
  start.findings = std::move(loaded.errors);
  start.config.agent = std::move(saved->agent);
  start.config.sources = std::move(saved->sources);
  // What stood in files is as if it stood in the configuration; registries are asked again.
  for (const model::ServicePtr& service : saved->services) {
    (service->source == kFileSource ? start.config.services : start.restored.services).push_back(service);
  }
  start.restored.saved_at = saved->saved_at;
  start.loaded_at = saved->saved_at;
  return start;
}

int run_agent(const std::string& config_path, const std::string& state_dir) {
  auto signals = Signals::block();
  if (!signals) return report(signals.error());
  auto start = load_start(config_path, state_dir);
  if (!start) return static_cast<int>(api::ExitCode::kBadConfig);
  const AgentSettings& settings = start->config.agent;
  base::log::init({.level = base::log::level_from(settings.log_level).value_or(base::log::Level::kInfo),
                   .format = base::log::format_from(settings.log_format).value_or(base::log::Format::kAuto),
                   .fd = 2,
                   .asynchronous = true});
  auto agent = Agent::make(std::move(*start), std::move(*signals));
  const auto result = agent ? (*agent)->run() : base::Result<void>(std::unexpected(agent.error()));
  if (agent) agent->reset();
  base::log::flush();
  return result ? 0 : report(result.error());
}

int relay_main(const std::string& loop, const std::string& log_level, RelayOptions options) {
  auto signals = Signals::block();
  if (!signals) return report(signals.error());
  if (loop == "io_uring") options.loop = io::LoopKind::kUring;
  if (loop == "epoll") options.loop = io::LoopKind::kEpoll;
  base::log::init({.level = base::log::level_from(log_level).value_or(base::log::Level::kInfo),
                   .format = base::log::Format::kAuto,
                   .fd = 2,
                   .asynchronous = true});
  const auto result = run_relay(options, *signals);
  base::log::flush();
  return result ? 0 : report(result.error());
}

/// As the commands do without a table: whoever wants one asks `meshctl`.
int print(const base::Result<api::AuthorityView>& view) {
  if (!view) return report(view.error());
  std::puts(api::encode(*view).c_str());
  return 0;
}

int main(int argc, char** argv) {
  CLI::App app("meshd balances the connect() of unmodified applications in the kernel, over probed endpoints.");
  app.footer(
      "Examples:\n"
      "  sudo meshd check                          can this machine run it?\n"
      "  meshd --check-config /etc/meshd/meshd.yaml\n"
      "  sudo meshd run                            the agent, in the foreground\n"
      "  sudo meshd relay                          what ends and begins TLS, beside it\n"
      "  sudo meshd dump --json                    the kernel tables, agent alive or dead\n"
      "  sudo meshd detach                         take everything out of the kernel\n\n"
      "Exit codes: 0 ok, 1 failure, 2 usage, 4 not found, 69 unavailable, 77 permission, 78 bad configuration.\n"
      "`meshctl --help` shows how to look at a running agent.");
  CommandOptions options;
  options.config = kDefaultConfig;
  std::string check_config_path;
  std::string state_dir = AgentSettings{}.state_dir;
  std::function<int()> action;

  const auto add_common = [&](CLI::App& command) {
    command.add_flag("--json", options.json, "One JSON document on stdout");
    command.add_option("--config", options.config, "Configuration file")->capture_default_str();
    command.add_option("--bpffs", options.bpffs, "Folder of the pins; default: agent.bpffs of the configuration");
  };
  add_common(app);
  const auto* check_config =
      app.add_option("--check-config", check_config_path, "Check this configuration file, and exit with 0 or 78")
          ->expected(0, 1);

  auto* run = app.add_subcommand("run", "Run the agent in the foreground; stopping it leaves the kernel balancing");
  run->add_option("--config", options.config, "Configuration file")->capture_default_str();
  run->add_option("--state-dir", state_dir, "Where the last good state is, for a start with a broken configuration")
      ->capture_default_str();
  run->callback([&] { action = [&] { return run_agent(options.config, state_dir); }; });

  RelayOptions relay_options;
  std::string relay_loop = "auto";
  std::string relay_log_level = "info";
  auto* relay =
      app.add_subcommand("relay", "End and begin TLS as the agent's configuration says; has the private keys");
  relay->add_option("--socket", relay_options.socket, "Where the agent listens for it")->capture_default_str();
  relay->add_option("--state-dir", relay_options.state_dir, "The last orders, for a start without an agent")
      ->capture_default_str();
  relay->add_option("--loop", relay_loop, "How the workers wait for their sockets")
      ->check(CLI::IsMember({"auto", "io_uring", "epoll"}))
      ->capture_default_str();
  relay->add_option("--log-level", relay_log_level, "The least important lines to write")
      ->check(CLI::IsMember({"debug", "info", "warn", "error"}))
      ->capture_default_str();
  relay->callback([&] { action = [&] { return relay_main(relay_loop, relay_log_level, relay_options); }; });

  const auto add = [&](const char* name, const char* help, int (*command)(const CommandOptions&)) {
    auto* sub = app.add_subcommand(name, help);
    add_common(*sub);
    sub->callback([&, command] { action = [&, command] { return command(options); }; });
    return sub;
  };
  add("check", "What this host has and lacks, with a self-test connection; needs no agent", command_check);
  add("detach", "Take hooks, tables and pins out of the kernel; no agent may run", command_detach);
  auto* dump = add("dump", "The kernel tables, agent alive or dead", command_dump);
  dump->add_option("--table", options.table,
                   "control, frontends, services, ranges, slots, backends or owners; default: all but owners");
  add("status", "What the pins say: who applied what and when, agent alive or dead", command_status);
  auto* estimate =
      add("estimate", "What a number of services costs in kernel memory, and which limits it needs", command_estimate);
  estimate->add_option("--services", options.services, "Number of services")
      ->check(CLI::Range(std::uint64_t{1}, std::uint64_t{1} << 26))
      ->required();
  estimate->add_option("--endpoints", options.endpoints, "Endpoints per service")
      ->check(CLI::Range(std::uint64_t{1}, std::uint64_t{1} << 26))
      ->required();
  estimate
      ->add_option("--balance", options.balance,
                   "weighted_random, round_robin, maglev, source_hash, least_connections or latency")
      ->capture_default_str();
  add("version", "Version of the agent and of its table layout", command_version);
  add("schema", "The JSON Schema of meshd.yaml", command_schema);

  AuthorityRequest authority;
  auto* ca = app.add_subcommand("ca", "An authority for labs; `meshctl ca --help` shows how it is used");
  ca->require_subcommand(1);
  const auto add_ca = [&](const char* name, const char* help, auto* command) {
    auto* sub = ca->add_subcommand(name, help);
    add_common(*sub);
    sub->add_option("--folder", authority.folder, "Of the authority")->capture_default_str();
    sub->callback([&, command] { action = [&, command] { return print(command(authority, base::wall_now())); }; });
    return sub;
  };
  auto* init = add_ca("init", "Make an authority", init_authority);
  init->add_option("--trust-domain", authority.trust_domain, "Whose identities it issues")->required();
  auto* issue = add_ca("issue", "Issue a certificate for an identity", issue_certificate);
  issue->add_option("--id", authority.id, "spiffe://TRUST-DOMAIN/PATH")->required();
  issue->add_option("--out", authority.out, "Folder for tls.crt, tls.key and ca.crt")->required();
  issue->add_option("--hours", authority.hours, "How long it is good")->check(CLI::Range(1, 87'600));
  auto* rotate = add_ca("rotate", "Make a new key; the bundle has both authorities", rotate_authority);
  rotate->add_flag("--finish", authority.finish, "Make none, and believe the newest alone");
  for (auto* sub : {init, rotate}) {
    sub->add_option("--days", authority.days, "How long the authority is good")->check(CLI::Range(1, 36'500));
  }

  int canary_fd = -1;
  auto* canary = app.add_subcommand("canary-child", "")->group("");
  canary->add_option("fd", canary_fd)->required();
  canary->callback([&] { action = [&] { return datapath::run_canary_child(canary_fd); }; });

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    const int code = app.exit(error);
    return code == 0 ? 0 : static_cast<int>(api::ExitCode::kUsage);
  }
  if (check_config->count() > 0) {
    if (!check_config_path.empty()) options.config = check_config_path;
    return command_check_config(options);
  }
  if (!action) {
    std::cout << app.help();
    return static_cast<int>(api::ExitCode::kUsage);
  }
  return action();
}

}  // namespace
}  // namespace mesh::app

int main(int argc, char** argv) { return mesh::app::main(argc, argv); }
