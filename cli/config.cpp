// SPDX-License-Identifier: Apache-2.0
// `meshctl config show|validate|schema`, `estimate`, `reload`: validate, schema and estimate need no agent.
#include <fmt/format.h>

#include <filesystem>
#include <ostream>

#include "api/control.hpp"
#include "base/plural.hpp"
#include "cli/context.hpp"
#include "cli/meshd.hpp"
#include "cli/views.hpp"

namespace mesh::cli {
namespace {

constexpr const char* kDefaultConfig = "/etc/meshd/meshd.yaml";

base::Result<ExitCode> run_show(Context& context) {
  const api::Json document = MESH_TRY(fetch(context, "/v1/config"));
  MESH_TRY(show<api::ConfigView>(context, document, [&](const api::ConfigView& view) {
    for (const std::string& file : view.files) context.out << "# read: " << printable(file) << '\n';
    context.out << to_yaml(view.effective);
  }));
  return ExitCode::kOk;
}

base::Result<ExitCode> run_validate(Context& context, const std::string& file) {
  // A path is given as the caller sees it; meshd runs in the same folder.
  std::string path = !file.empty() ? file : config_path(context);
  if (path.empty()) path = kDefaultConfig;
  const MeshdAnswer answer = MESH_TRY(run_meshd(context, {"--check-config", std::move(path)}));
  const auto document = api::detail::parse(answer.output);
  if (!document) {
    return base::fail(base::ErrorKind::kSystem,
                      fmt::format("run meshd --check-config: it ended with {} and no report", answer.exit_code));
  }
  const auto view = MESH_TRY(show<api::ValidateView>(context, *document, [&](const api::ValidateView& shown) {
    for (const std::string& line : lines_of(shown)) context.out << printable(line) << '\n';
  }));
  return view.ok ? ExitCode::kOk : ExitCode::kBadConfig;
}

base::Result<ExitCode> run_schema(Context& context) {
  const MeshdAnswer answer = MESH_TRY(run_meshd(context, {"schema"}));
  if (answer.exit_code != 0) return static_cast<ExitCode>(answer.exit_code);
  const api::Json schema = MESH_TRY(api::detail::parse(answer.output));
  context.out << (context.output == Output::kYaml ? to_yaml(schema) : to_pretty_json(schema));
  return ExitCode::kOk;
}

base::Result<ExitCode> run_reload(Context& context) {
  const api::Json document = MESH_TRY(send(context, "/v1/reload", ""));
  const auto view = MESH_TRY(show<api::ReloadView>(context, document, [&](const api::ReloadView& shown) {
    context.out << diagnostics_text(shown.errors);
    context.out << (shown.ok ? fmt::format("reloaded: {}, {}\n", base::counted(shown.services, "service"),
                                           base::counted(shown.endpoints, "endpoint"))
                             : std::string("refused: the configuration before stays in force\n"));
    for (const std::string& key : shown.needs_restart) {
      context.out << "note: " << printable(key) << " takes effect at the next start\n";
    }
  }));
  return view.ok ? ExitCode::kOk : ExitCode::kBadConfig;
}

struct EstimateRequest {
  std::uint64_t services = 1000;
  std::uint64_t endpoints = 10;
  std::string balance = "weighted_random";
};

base::Result<ExitCode> run_estimate(Context& context, const EstimateRequest& request) {
  const MeshdAnswer answer =
      MESH_TRY(run_meshd(context, {"estimate", "--services", std::to_string(request.services), "--endpoints",
                                   std::to_string(request.endpoints), "--balance", request.balance}));
  if (answer.exit_code != 0) return static_cast<ExitCode>(answer.exit_code);
  const api::Json document = MESH_TRY(api::detail::parse(answer.output));
  MESH_TRY(show<api::EstimateView>(context, document, [&](const api::EstimateView& view) {
    Table table({"TABLE", "NEEDED", "SIZE", "MEMORY", "SETTING"});
    for (const api::EstimateTable& row : view.tables) {
      table.add({row.table, row.needed ? std::to_string(*row.needed) : "-", std::to_string(row.size),
                 format_bytes(row.bytes), row.setting});
    }
    context.out << table.render(context.style()) << (view.note.empty() ? "" : "note: " + printable(view.note) + '\n')
                << fmt::format("kernel {}, agent about {}\n", format_bytes(view.kernel_bytes),
                               format_bytes(view.agent_bytes));
  }));
  return ExitCode::kOk;
}

}  // namespace

std::string config_path(const Context& context) {
  if (!context.config_path.empty()) return context.config_path;
  const auto document = fetch(context, "/v1/config");
  const auto running = document ? api::from_document<api::ConfigView>(*document) : std::unexpected(document.error());
  return running ? running->path : "";
}

std::string diagnostics_text(const std::vector<api::DiagnosticView>& diagnostics) {
  std::string text;
  for (const api::DiagnosticView& finding : diagnostics) text += printable(api::to_text(finding)) + '\n';
  return text;
}

void add_config(CLI::App& app, Context& context) {
  auto* config = app.add_subcommand("config", "the configuration: in force, checked, its schema");
  config->require_subcommand(1);
  config->fallthrough();
  config->footer("Examples:\n  meshctl config validate ./meshd.yaml\n  meshctl config show -o json");
  auto* show_command = config->add_subcommand("show", "what is in force, defaults filled in");
  show_command->callback([&context] { context.run = [&context] { return run_show(context); }; });

  auto* validate = config->add_subcommand("validate", "check a file; needs no agent, applies nothing");
  auto file = std::make_shared<std::string>();
  validate->add_option("FILE", *file, "meshd.yaml; default /etc/meshd/meshd.yaml");
  validate->footer("Exit code 0 valid, 78 not.\nExamples:\n  meshctl config validate ./meshd.yaml");
  validate->callback([&context, file] { context.run = [&context, file] { return run_validate(context, *file); }; });

  auto* schema = config->add_subcommand("schema", "JSON Schema of meshd.yaml, for editors; needs no agent");
  schema->footer("Examples:\n  meshctl config schema > ~/.config/meshd.schema.json");
  schema->callback([&context] { context.run = [&context] { return run_schema(context); }; });
}

void add_reload(CLI::App& app, Context& context) {
  auto* command = app.add_subcommand("reload", "read the configuration again; all of it or nothing");
  command->footer("Exit code 0 applied, 78 refused: then what was in force stays.");
  command->callback([&context] { context.run = [&context] { return run_reload(context); }; });
}

void add_estimate(CLI::App& app, Context& context) {
  auto* command = app.add_subcommand("estimate", "what a scale costs in kernel and agent memory; needs no agent");
  auto request = std::make_shared<EstimateRequest>();
  command->add_option("--services", request->services, "services")
      ->check(CLI::Range(std::uint64_t{1}, std::uint64_t{1} << 26))
      ->capture_default_str();
  command->add_option("--endpoints", request->endpoints, "endpoints of each")
      ->check(CLI::Range(std::uint64_t{1}, std::uint64_t{1} << 26))
      ->capture_default_str();
  command->add_option("--balance", request->balance, "how they are balanced: it decides about the slots")
      ->capture_default_str()
      ->check(
          CLI::IsMember({"weighted_random", "round_robin", "maglev", "source_hash", "least_connections", "latency"}));
  command->footer(
      "Examples:\n  meshctl estimate --services 10000 --endpoints 10\n"
      "  meshctl estimate --services 500 --endpoints 20 --balance maglev");
  command->callback(
      [&context, request] { context.run = [&context, request] { return run_estimate(context, *request); }; });
}

}  // namespace mesh::cli
